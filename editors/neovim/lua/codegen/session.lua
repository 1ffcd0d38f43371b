--- A program in several turns, in a split beside its file: `:Codegen session`. The file is the session. What the model
--- writes is put into its buffer, so undo, saving and versions are Neovim's; the split shows the steps, what each did when
--- it was run, and the candidates. Nothing is written or run unless the user asks for it.

local page_of = require('codegen.session_text')
local server = require('codegen.server')

local api = vim.api
local M = {}

local NAME = 'codegen://session'
local SETTLE = 50 -- milliseconds after a change of the file until its turns are read again
local METHOD = 'codegen-lsp/synthesis/'
local CONTENT_MODIFIED = -32801
local namespace = api.nvim_create_namespace('codegen_session')

--- The session that is shown, or nil: file, buf, turns, outcomes (by program up to a turn), files (the same), written,
--- pending, notice, keys, lines.
local shown

local function say(text, group)
  if shown then shown.notice = text and { text = text, group = group or 'CodegenSessionWrong' } or nil end
end

local function window_of(bufnr)
  for _, win in ipairs(api.nvim_tabpage_list_wins(0)) do
    if api.nvim_win_get_buf(win) == bufnr then return win end
  end
end

--- Returns a key for the program up to a turn; what a turn did is known for exactly this program.
local function program_key(turns, number, code)
  local parts = { shown.head or '' }
  for at = 1, number do parts[at + 1] = at == number and code or turns[at].code end
  return table.concat(parts, '\0')
end

--- Returns the candidates for the turn that was written last, while it has one of them.
local function written_now()
  local written = shown.written
  local turn = written and shown.turns[written.turn]
  if not turn or turn.request ~= written.request then return nil end
  for at, proposal in ipairs(written.proposals) do
    if proposal.code == turn.code then return vim.tbl_extend('force', written, { chosen = at }) end
  end
end

--- Returns the first and the last line of a step in the split, or nil.
local function rows_of(number)
  local first, last
  for row, line in ipairs(shown.lines) do
    if line.turn == number then
      first, last = first or row, row
    end
  end
  return first, last
end

--- Returns a function that puts the cursor of the split back on its step, once the lines are drawn anew: what is above
--- may have grown, and a key would act on another step.
local function keep_cursor()
  local win = window_of(shown.buf)
  local cursor = win and api.nvim_win_get_cursor(win)
  local number = cursor and shown.lines[cursor[1]] and shown.lines[cursor[1]].turn
  if not number then return function() end end
  local below = cursor[1] - rows_of(number)
  return function()
    local first, last = rows_of(number)
    if first then api.nvim_win_set_cursor(win, { math.min(first + below, last), cursor[2] }) end
  end
end

local function draw()
  if not shown or not api.nvim_buf_is_valid(shown.buf) then return end
  local restore_cursor = keep_cursor()
  local outcomes, files = {}, {}
  for number, turn in ipairs(shown.turns) do
    local key = program_key(shown.turns, number, turn.code)
    outcomes[number], files[number] = shown.outcomes[key], shown.files[key]
  end
  local model = server.status and server.status.model
  local lines = page_of.page({
    name = vim.fn.fnamemodify(api.nvim_buf_get_name(shown.file), ':t'),
    model = type(model) == 'table' and model.name or nil,
    turns = shown.turns,
    outcomes = outcomes,
    files = files,
    written = written_now(),
    pending = shown.pending,
    notice = shown.notice,
    keys = shown.keys,
  })
  shown.lines = lines
  vim.bo[shown.buf].modifiable = true
  local texts = vim.tbl_map(function(line) return line.text end, lines)
  api.nvim_buf_set_lines(shown.buf, 0, -1, false, texts)
  vim.bo[shown.buf].modifiable = false
  restore_cursor()
  api.nvim_buf_clear_namespace(shown.buf, namespace, 0, -1)
  for row, line in ipairs(lines) do
    for _, mark in ipairs(line.marks) do
      api.nvim_buf_set_extmark(shown.buf, namespace, row - 1, mark[1], { end_col = mark[2], hl_group = mark[3] })
    end
  end
end

--- Moves the cursor of the split to a step.
local function move_to(number)
  local win, first = shown and window_of(shown.buf), shown and rows_of(number)
  if win and first then api.nvim_win_set_cursor(win, { first, 0 }) end
end

--- Shows the code of a step in the window of the file.
local function show_code(number)
  local win, turn = window_of(shown.file), shown.turns[number]
  if not win or not turn then return end
  local last = turn.range['end'].line
  local count = api.nvim_buf_line_count(shown.file)
  api.nvim_win_set_cursor(win, { math.max(1, math.min(last, count)), 0 })
end

--- Sends a request about the file. `done(result)` is called with its answer while the same session is shown.
local function ask_server(method, params, done)
  local session, client = shown, server.client(shown.file)
  if not client then
    say('The server does not run; :Codegen status says why.')
    shown.pending = nil
    return draw()
  end
  params.textDocument = vim.lsp.util.make_text_document_params(session.file)
  return server.request(client, METHOD .. method, params, session.file, function(err, result)
    if shown == session and api.nvim_buf_is_valid(session.file) then done(err, result, client) end
  end)
end

--- Sends a request that writes or runs something, as the one that is pending. `done(result, client)` is called if the
--- file is still as it was.
local function work(method, params, done)
  local session, tick, pending = shown, api.nvim_buf_get_changedtick(shown.file), shown.pending
  shown.request = ask_server(method, params, function(err, result, client)
    if session.pending ~= pending then return end -- it was stopped
    session.request, session.pending = nil, nil
    if not err and api.nvim_buf_get_changedtick(session.file) == tick then return done(result, client) end
    local modified = not err or err.code == CONTENT_MODIFIED
    say(modified and 'The file was changed meanwhile; ask again.' or err.message)
    draw()
  end)
end

--- Reads the turns of the file.
local function refresh(done)
  ask_server('turns', {}, function(err, result)
    if err then
      say(err.message)
      return draw()
    end
    shown.turns = result.turns
    local first = result.turns[1]
    local last = first and first.range.start.line or -1
    shown.head = table.concat(api.nvim_buf_get_lines(shown.file, 0, last, false), '\n')
    draw()
    if done then done() end
  end)
end

--- Applies edits to the file as one undo step of their own, or as a part of the last one.
local function apply(edits, client, join)
  if #edits == 0 then return end
  local count, at_end = api.nvim_buf_line_count(shown.file), false
  for _, one in ipairs(edits) do at_end = at_end or one.range['end'].line >= count end
  api.nvim_buf_call(shown.file, function()
    vim.cmd(join and 'silent! undojoin' or 'let &g:undolevels = &g:undolevels')
    vim.lsp.util.apply_text_edits(edits, shown.file, client.offset_encoding)
    -- Before 0.12, the end of the last line may become an empty line below it.
    local last = api.nvim_buf_line_count(shown.file)
    if at_end and last > 1 and api.nvim_buf_get_lines(shown.file, last - 1, last, false)[1] == '' then
      api.nvim_buf_set_lines(shown.file, last - 1, last, false, {})
    end
  end)
end

--- Saves what a step drew beside the file, as `codegen-lsp synth` does. Returns the paths as they are shown.
local function save_files(files)
  local path = api.nvim_buf_get_name(shown.file)
  local folder, paths = vim.fn.fnamemodify(path, ':r') .. '-files', {}
  for _, one in ipairs(files or {}) do
    local name = vim.fn.fnamemodify(one.name, ':t')
    local ok, err = pcall(function()
      vim.fn.mkdir(folder, 'p')
      local file = assert(io.open(folder .. '/' .. name, 'wb'))
      file:write(vim.base64.decode(one.base64))
      file:close()
    end)
    if not ok then say(tostring(err)) end
    if ok then paths[#paths + 1] = vim.fn.fnamemodify(folder, ':t') .. '/' .. name end
  end
  return #paths > 0 and paths or nil
end

--- Keeps what a step did, for its program.
local function keep_outcome(number, code, outcome)
  if not outcome then return end
  local key = program_key(shown.turns, number, code)
  shown.outcomes[key] = outcome
  shown.files[key] = save_files(outcome.files)
end

local function begin(turn, request, text)
  shown.notice = nil
  shown.pending = { turn = turn, request = request, text = text }
  draw()
end

local function busy()
  if shown.pending then
    say('Something is being written or run; s stops it.', 'CodegenSessionPending')
    draw()
  end
  return shown.pending ~= nil
end

--- Returns a function that takes the answer to a request that ran the program. With `join`, its changes are undone with
--- those before.
local function take_run(join)
  return function(result, client)
    apply(result.edits, client, join)
    refresh(function()
      for number, outcome in ipairs(result.turns) do
        if shown.turns[number] then keep_outcome(number, shown.turns[number].code, outcome) end
      end
      draw()
    end)
  end
end

--- Takes what the model wrote: the first proposal, and the candidates for choosing.
local function take(params, result, client)
  local number, first = params.turn and params.turn + 1 or #shown.turns + 1, result.proposals[1]
  if not first then
    say('The model wrote nothing. Say it in other words, or write the code yourself.')
    return draw()
  end
  if params.code == nil then
    shown.written = { turn = number, request = params.request, proposals = result.proposals, seed = params.seed }
  end
  apply(first.edits, client)
  refresh(function()
    keep_outcome(number, first.code, first.outcome)
    if not (first.kind == 'right' or first.kind == 'ran') and params.code == nil then
      say('No candidate is right. r tries others, e edits the code, c says it in other words.')
    elseif first.code == '' then
      say('The model wrote nothing. Say it in other words, or write the code yourself.')
    end
    draw()
    move_to(number)
    show_code(number)
    if number == #shown.turns then return end
    -- The steps below were written anew: what each did is known when all have run.
    local notice = shown.notice
    begin(nil, '', 'running …')
    shown.notice = notice
    work('run', {}, take_run(true))
  end)
end

--- Asks the questions that a request leaves open, one after the other, then calls `done` with the longer request.
local function answer(questions, request, done)
  local question = table.remove(questions, 1)
  if not question then return done(request) end
  vim.ui.input({ prompt = question.text .. ' (Enter: go on) ' }, function(text)
    if not text then
      say('Nothing was asked.', 'CodegenSessionPending')
      return draw()
    end
    if vim.trim(text) ~= '' then request = request .. '\n' .. vim.trim(text) end
    answer(questions, request, done)
  end)
end

--- Has a step written. `params` are those of the request, without the document.
local function propose(params)
  local number = params.turn and params.turn + 1 or #shown.turns + 1
  begin(number, params.request, 'writing and running candidates …')
  work('propose', params, function(result, client)
    if #result.proposals > 0 or #result.questions == 0 or not params.askFirst then return take(params, result, client) end
    draw()
    local session = shown
    answer(result.questions, params.request, function(request)
      if shown == session then propose(vim.tbl_extend('force', params, { request = request, askFirst = false })) end
    end)
  end)
end

--- Has the user say what a step should do.
local function input(number, default, done)
  local session = shown
  vim.ui.input({ prompt = ('%d › '):format(number), default = default }, function(text)
    api.nvim_echo({ { '' } }, false, {}) -- what was typed stays on the command line otherwise
    if text and vim.trim(text) ~= '' and shown == session then done(vim.trim(text)) end
  end)
end

--- Returns the step and the candidate under the cursor of the split, else the last step.
local function under_cursor()
  local win = window_of(shown.buf)
  local line = win and shown.lines[api.nvim_win_get_cursor(win)[1]]
  if line and line.turn then return line.turn, line.candidate end
  return #shown.turns > 0 and #shown.turns or nil
end

--- Calls `act` with the step under the cursor.
local function with_step(act)
  return function()
    if busy() then return end
    local number, candidate = under_cursor()
    if number then return act(number, candidate) end
    say('There is no step yet; a asks for one.', 'CodegenSessionPending')
    draw()
  end
end

--- Asks for the next step.
---@param request string?
function M.ask(request)
  if busy() then return end
  local function go(text) propose({ request = text, askFirst = true, seed = 0 }) end
  if request then return go(request) end
  input(#shown.turns + 1, nil, go)
end

local function change(number)
  local before = shown.turns[number].request
  input(number, before:gsub('\n', ' '), function(request)
    if request == before:gsub('\n', ' ') then request = before end
    propose({ turn = number - 1, request = request, askFirst = request ~= before, seed = 0 })
  end)
end

local function insert(number)
  input(number, nil, function(request)
    propose({ turn = number - 1, insert = true, request = request, askFirst = true, seed = 0 })
  end)
end

local function retry(number)
  local written = written_now()
  local seed = written and written.turn == number and (written.seed or 0) + 1 or shown.turns[number].code ~= '' and 1 or 0
  propose({ turn = number - 1, request = shown.turns[number].request, seed = seed })
end

local function choose(candidate)
  if busy() then return end
  local written = written_now()
  local proposal = written and written.proposals[candidate]
  if not proposal then
    say(('There is no candidate %d.'):format(candidate), 'CodegenSessionPending')
    return draw()
  end
  if written.chosen == candidate then return draw() end
  propose({ turn = written.turn - 1, request = written.request, code = proposal.code })
end

local function edit(number)
  local turn, win = shown.turns[number], window_of(shown.file)
  if not win then
    vim.cmd('leftabove vertical sbuffer ' .. shown.file)
    win = api.nvim_get_current_win()
  end
  api.nvim_set_current_win(win)
  local _, lines = turn.request:gsub('\n', '')
  local row = math.min(turn.range.start.line + lines + 2, api.nvim_buf_line_count(shown.file))
  api.nvim_win_set_cursor(win, { row, 0 })
  vim.cmd.normal({ '^', bang = true })
end

local function act_on(number, candidate)
  if candidate then return choose(candidate) end
  edit(number)
end

local function remove(number)
  begin(number, '', 'removing …')
  work('edit', { turn = number - 1 }, take_run())
end

local function run()
  if busy() then return end
  begin(nil, '', 'running …')
  work('run', {}, take_run())
end

local function stop()
  if not shown.pending then return end
  local client = server.client(shown.file)
  if client and shown.request then server.cancel(client, shown.request) end
  shown.pending, shown.request = nil, nil
  say('Stopped; nothing was changed.', 'CodegenSessionPending')
  draw()
end

--- Runs undo or redo in the file.
local function step(command)
  return function()
    if busy() then return end
    local said = api.nvim_buf_call(shown.file, function() return vim.fn.execute(command) end)
    say(vim.trim(said) ~= '' and vim.trim(said) or nil, 'CodegenSessionDim')
    refresh()
  end
end

local function close()
  local win = shown and window_of(shown.buf)
  if win and #api.nvim_tabpage_list_wins(0) > 1 then api.nvim_win_close(win, true) end
end

local function map_keys(buf)
  local function map(key, act, desc)
    vim.keymap.set('n', key, act, { buffer = buf, nowait = true, silent = true, desc = 'codegen: ' .. desc })
  end
  map('a', function() M.ask() end, 'ask for the next step')
  map('c', with_step(change), 'change the step')
  map('i', with_step(insert), 'insert a step')
  map('r', with_step(retry), 'write the step again')
  map('<CR>', with_step(act_on), 'take the candidate, or go to the code')
  map('e', with_step(edit), 'edit the code')
  map('d', with_step(remove), 'remove the step')
  map('x', run, 'run the program')
  map('u', step('undo'), 'undo')
  map('<C-r>', step('redo'), 'redo')
  map('s', stop, 'stop')
  map('q', close, 'close the split')
  map('?', function()
    shown.keys = not shown.keys
    draw()
    local win = window_of(buf)
    if shown.keys and win then api.nvim_win_set_cursor(win, { api.nvim_buf_line_count(buf), 0 }) end
  end, 'show the keys')
  for candidate = 1, 9 do
    map(tostring(candidate), function() choose(candidate) end, ('take candidate %d'):format(candidate))
  end
end

--- Reads the turns again after each change of the file.
local function follow(file)
  local session = shown
  api.nvim_buf_attach(file, false, {
    on_lines = function()
      if shown ~= session then return true end
      if session.due then return end
      session.due = true
      vim.defer_fn(function()
        session.due = false
        if shown == session and not session.pending then refresh() end
      end, SETTLE)
    end,
  })
end

--- Ends the session with its file.
local function end_with(file)
  local session = shown
  api.nvim_create_autocmd('BufWipeout', {
    buffer = file,
    callback = function()
      if shown ~= session then return end
      shown = nil
      vim.schedule(function() pcall(api.nvim_buf_delete, session.buf, { force = true }) end)
    end,
  })
end

local function make_buffer()
  local buf = api.nvim_create_buf(false, true)
  api.nvim_buf_set_name(buf, NAME)
  vim.bo[buf].filetype = 'codegen-session'
  vim.bo[buf].bufhidden = 'hide'
  vim.bo[buf].modifiable = false
  api.nvim_create_autocmd('BufWipeout', {
    buffer = buf,
    callback = function()
      if shown and shown.buf == buf then shown = nil end
    end,
  })
  map_keys(buf)
  return buf
end

local function open_split(buf)
  vim.cmd('botright vertical sbuffer ' .. buf)
  local win = api.nvim_get_current_win()
  api.nvim_win_set_width(win, math.max(36, math.floor(vim.o.columns * 0.5)))
  local options = {
    number = false,
    relativenumber = false,
    signcolumn = 'no',
    foldcolumn = '0',
    cursorline = true,
    wrap = true,
    linebreak = true,
    breakindent = true,
    breakindentopt = 'shift:2',
    list = false,
    spell = false,
    winbar = page_of.BAR,
  }
  for name, value in pairs(options) do api.nvim_set_option_value(name, value, { win = win, scope = 'local' }) end
end

--- Opens the split for the current file, and calls `done` when its turns are known. Returns false where that is not
--- possible.
---@param done fun()?
function M.open(done)
  local file = api.nvim_get_current_buf()
  if shown and file == shown.buf then
    if done then done() end
    return true
  end
  if vim.bo[file].filetype ~= 'python' then
    server.notify('A session is a Python file.', vim.log.levels.WARN)
    return false
  end
  if not server.client(file) then
    server.notify('The server does not run in this buffer; :Codegen status says why.', vim.log.levels.WARN)
    return false
  end
  page_of.define_highlights()
  if not shown or shown.file ~= file then
    local old = shown
    local buf = old and old.buf or make_buffer()
    shown = { file = file, buf = buf, turns = {}, outcomes = {}, files = {}, lines = {} }
    follow(file)
    end_with(file)
  end
  local win = window_of(shown.buf)
  if win then
    api.nvim_set_current_win(win)
  else
    open_split(shown.buf)
  end
  draw()
  refresh(function()
    move_to(#shown.turns)
    if done then done() end
  end)
  return true
end

--- Opens the split, and asks for the next step if there is a text.
---@param request string?
function M.command(request)
  M.open(request and function() M.ask(request) end or nil)
end

--- Has the code written for the comment at the cursor: the file goes on as a session from there.
function M.continue()
  local row = api.nvim_win_get_cursor(0)[1] - 1
  M.open(function()
    for number, turn in ipairs(shown.turns) do
      if turn.range.start.line <= row and row < math.max(turn.range['end'].line, turn.range.start.line + 1) then
        move_to(number)
        if turn.code == '' then
          return not busy() and propose({ turn = number - 1, request = turn.request, askFirst = true, seed = 0, rewriteLater = false })
        end
        say('This step has code. r writes it anew, a asks for the next step.', 'CodegenSessionPending')
        return draw()
      end
    end
    say('There is no step here: a step begins with a comment at the start of a line, below an empty line.')
    draw()
  end)
end

return M
