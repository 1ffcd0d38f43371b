--- Ghost text: requests suggestions, shows them at the cursor, keeps them while they are typed through, and inserts
--- them into the buffer. Neovim's own inline completion (0.12) does not cancel requests, shows late answers over newer
--- text and can't accept a part of a suggestion; before 0.12 there is none.
---
--- An item is anchored in its line by the text around it: it begins at byte `start` of line `row`, replaces `tail`
--- after the cursor (closing brackets that the editor inserted), and is followed by `after`, the end of the line. It is
--- shown only while all three still match the buffer.

local config = require('codegen.config')
local insert = require('codegen.insert')
local menu = require('codegen.menu')
local server = require('codegen.server')

local api = vim.api
local M = {}

M.namespace = api.nvim_create_namespace('codegen')
--- Suggestions are on everywhere; changed by `:Codegen toggle`.
M.enabled = true

local METHOD = 'textDocument/inlineCompletion'
local INVOKED, AUTOMATIC = 1, 2
local states = {} -- by buffer

local function state_of(bufnr)
  states[bufnr] = states[bufnr] or { seq = 0 }
  return states[bufnr]
end

local function inserting() return api.nvim_get_mode().mode:sub(1, 1) == 'i' end

local function line_of(bufnr, row) return api.nvim_buf_get_lines(bufnr, row, row + 1, false)[1] or '' end

--- Returns the byte of a line at a column of the protocol; columns beyond the end are clamped.
local function byte_at(line, column, encoding)
  if encoding == 'utf-8' then return math.min(column, #line) end
  local ok, byte
  if vim.fn.has('nvim-0.11') == 1 then
    ok, byte = pcall(vim.str_byteindex, line, encoding, column, false)
  else
    ok, byte = pcall(vim.str_byteindex, line, column, encoding == 'utf-16')
  end
  return ok and byte or #line
end

local function hide(bufnr)
  local state = state_of(bufnr)
  if state.drawn then api.nvim_buf_clear_namespace(bufnr, M.namespace, 0, -1) end
  state.drawn = false
end

--- Cancels the request under way; an answer that still arrives is ignored.
local function cancel(state)
  state.seq = state.seq + 1
  if state.timer then
    state.timer:stop()
    if not state.timer:is_closing() then state.timer:close() end
    state.timer = nil
  end
  if state.request then
    server.cancel(state.request.client, state.request.id)
    state.request = nil
  end
end

local function drop(bufnr)
  local state = state_of(bufnr)
  cancel(state)
  state.items, state.key = nil, nil
  if api.nvim_buf_is_valid(bufnr) then hide(bufnr) end
end

--- Returns the rest of an item at the cursor: the text, the row, the column, and the text that it replaces after the
--- cursor. Nil when the text before the cursor is not a beginning of the item.
local function left_of(bufnr, item)
  local cursor = api.nvim_win_get_cursor(0)
  local row, column = cursor[1] - 1, cursor[2]
  if row ~= item.row or column < item.start then return nil end
  local line = line_of(bufnr, row)
  local typed = line:sub(item.start + 1, column)
  if #typed >= #item.text or not vim.startswith(item.text, typed) then return nil end
  local rest = line:sub(column + 1)
  if not vim.endswith(rest, item.after) then return nil end
  local tail = rest:sub(1, #rest - #item.after)
  if not vim.endswith(item.tail, tail) then return nil end -- brackets may have been typed over
  return item.text:sub(#typed + 1), row, column, tail
end

--- Expands tabs from a display column on; makes other control characters visible.
local function displayed(text, column)
  local out = ''
  for part, tab in text:gmatch('([^\t]*)(\t?)') do
    out = out .. vim.fn.strtrans(part)
    if tab ~= '' then
      local at = column + vim.fn.strdisplaywidth(out, column)
      out = out .. (' '):rep(vim.fn.strdisplaywidth('\t', at))
    end
  end
  return out
end

--- Splits `text` into the pieces between the bytes of `tail`: pairs of an offset in `tail` and a piece. Nil when `tail`
--- is not a subsequence of `text`.
local function around(text, tail)
  local pieces, from = {}, 1
  for at = 1, #tail do
    local found = text:find(tail:sub(at, at), from, true)
    if not found then return nil end
    if found > from then pieces[#pieces + 1] = { at - 1, text:sub(from, found - 1) } end
    from = found + 1
  end
  if from <= #text then pieces[#pieces + 1] = { #tail, text:sub(from) } end
  return pieces
end

local function mark(bufnr, row, column, options)
  options.hl_mode = 'combine'
  api.nvim_buf_set_extmark(bufnr, M.namespace, row, column, options)
end

--- Scrolls so that `below` virtual lines under the cursor's line are inside the window.
local function reveal(row, below)
  local win = api.nvim_get_current_win()
  local height = api.nvim_win_get_height(win) - (vim.wo[win].winbar ~= '' and 1 or 0)
  local view = vim.fn.winsaveview()
  local top = view.topline
  while top < row + 1 and api.nvim_win_text_height(win, { start_row = top - 1, end_row = row }).all + below > height do
    top = top + 1
  end
  if top == view.topline then return end
  view.topline = top
  vim.fn.winrestview(view)
end

--- Shows the current item. Shows nothing and returns false when it doesn't match the text at the cursor.
local function draw(bufnr)
  hide(bufnr)
  local state = state_of(bufnr)
  local item = state.items and state.items[state.index]
  if not item then return false end
  local text, row, column, tail = left_of(bufnr, item)
  if not text then return false end
  state.drawn = true
  local lines = vim.split(text, '\n', { plain = true })
  local first = vim.fn.strdisplaywidth(line_of(bufnr, row):sub(1, column))
  local hint = ''
  if state.cycled and #state.items > 1 then hint = (' (%d/%d)'):format(state.index, #state.items) end
  local only_first = #lines > 1 and menu.visible()
  if only_first then hint = (' … +%d'):format(#lines - 1) .. hint end

  if #lines == 1 or only_first then
    local pieces = around(lines[1], tail)
    for _, piece in ipairs(pieces or {}) do
      local shown = displayed(piece[2], first)
      mark(bufnr, row, column + piece[1], { virt_text = { { shown, 'CodegenGhost' } }, virt_text_pos = 'inline' })
    end
    if not pieces then
      mark(bufnr, row, column, { virt_text = { { displayed(lines[1], first), 'CodegenGhost' } }, virt_text_pos = 'overlay' })
    end
    if hint ~= '' then
      mark(bufnr, row, column + #tail, { virt_text = { { hint, 'CodegenGhostMore' } }, virt_text_pos = 'inline' })
    end
    return true
  end

  -- The rest of the cursor's line will follow the last line of the item: cover it here, show it there.
  local after = item.after:match('^%s*$') and '' or item.after
  local covered = vim.fn.strdisplaywidth(tail .. after, first)
  local shown = displayed(lines[1], first)
  local blank = math.max(covered - vim.fn.strdisplaywidth(shown, first), 0)
  local below = {}
  for at = 2, #lines do
    local line = displayed(lines[at], 0)
    below[at - 1] = { { line == '' and ' ' or line, 'CodegenGhost' } }
  end
  if after ~= '' then table.insert(below[#below], { displayed(after, 0), 'Normal' }) end
  if hint ~= '' then table.insert(below[#below], { hint, 'CodegenGhostMore' }) end
  mark(bufnr, row, column, {
    virt_text = { { shown .. (' '):rep(blank), 'CodegenGhost' } },
    virt_text_pos = covered > 0 and 'overlay' or 'inline',
    virt_lines = below,
    virt_lines_overflow = vim.fn.has('nvim-0.11') == 1 and 'scroll' or nil,
  })
  reveal(row, #below)
  return true
end

--- Returns the items of an answer, anchored in the line as it was at the time of the request.
local function items_of(result, row, column, line, client)
  local items = {}
  for _, item in ipairs(type(result) == 'table' and (result.items or result) or {}) do
    local from, to = column, column
    if item.range then
      from = byte_at(line, item.range.start.character, client.offset_encoding)
      to = byte_at(line, item.range['end'].character, client.offset_encoding)
    end
    local on_line = not item.range or (item.range.start.line == row and item.range['end'].line == row)
    if type(item.insertText) == 'string' and on_line and from <= column and to >= column then
      items[#items + 1] = {
        row = row,
        start = from,
        text = (item.insertText:gsub('\r\n?', '\n')),
        tail = line:sub(column + 1, to),
        after = line:sub(to + 1),
        command = item.command,
        client = client,
      }
    end
  end
  return items
end

--- Sends a request. `done(items)` is called with the answer, unless the request was superseded.
local function ask(bufnr, kind, done)
  local client = server.client(bufnr)
  if not client or not server.wanted(bufnr) or not client.server_capabilities.inlineCompletionProvider then return false end
  local state = state_of(bufnr)
  cancel(state)
  local seq = state.seq
  local cursor = api.nvim_win_get_cursor(0)
  local row, column = cursor[1] - 1, cursor[2]
  local line = line_of(bufnr, row)
  local params = vim.lsp.util.make_position_params(0, client.offset_encoding)
  params.context = { triggerKind = kind, selectedCompletionInfo = menu.selected(row, column, line, client.offset_encoding) }
  local id = server.request(client, METHOD, params, bufnr, function(err, result)
    if seq ~= state.seq then return end
    state.request = nil
    if err or not inserting() or api.nvim_get_current_buf() ~= bufnr then return end
    done(items_of(result, row, column, line, client))
  end)
  if id then state.request = { client = client, id = id } end
  return id ~= nil
end

local function show(bufnr, items)
  local state = state_of(bufnr)
  state.items, state.index, state.cycled = items, 1, false
  draw(bufnr)
end

local function wanted(bufnr)
  return M.enabled and vim.b[bufnr].codegen_enabled ~= false and not insert.executing()
end

--- Called when text, cursor or mode changed: keeps an item that still matches, else sends a new request.
local function on_change(bufnr)
  if bufnr ~= api.nvim_get_current_buf() or not inserting() then return end
  local state = state_of(bufnr)
  local cursor = api.nvim_win_get_cursor(0)
  local key = table.concat({ api.nvim_buf_get_changedtick(bufnr), cursor[1], cursor[2], menu.word() or '' }, ':')
  if key == state.key then return end -- one key press causes several events
  state.key = key
  if draw(bufnr) then return cancel(state) end
  for index in ipairs(state.items or {}) do
    state.index = index
    if draw(bufnr) then return cancel(state) end
  end
  state.items = nil
  cancel(state)
  if not config.current.auto or not wanted(bufnr) then return end
  local seq = state.seq
  state.timer = vim.defer_fn(function()
    if seq ~= state.seq then return end
    state.timer = nil
    if api.nvim_get_current_buf() ~= bufnr or not inserting() then return end
    ask(bufnr, AUTOMATIC, function(items) show(bufnr, items) end)
  end, config.current.debounce)
end

--- Sends a request for text that was typed before the server or its model was ready.
local function on_answerable(bufnr)
  local state = state_of(bufnr)
  if state.drawn or state.request or state.timer then return end
  state.key = nil
  on_change(bufnr)
end

--- Returns true while a suggestion is shown at the cursor.
function M.visible()
  local bufnr = api.nvim_get_current_buf()
  local state = states[bufnr]
  local item = state and state.drawn and state.items and state.items[state.index]
  return item ~= nil and item ~= false and left_of(bufnr, item) ~= nil
end

--- Requests all suggestions at the cursor, in manual mode too; cycling then goes through them.
function M.trigger()
  local bufnr = api.nvim_get_current_buf()
  if not inserting() or not wanted(bufnr) then return false end
  return ask(bufnr, INVOKED, function(items)
    show(bufnr, items)
    state_of(bufnr).complete = items
  end)
end

--- Shows the suggestion `count` further. Automatic requests return only the best one, so the first call requests more.
function M.cycle(count)
  if not M.visible() then return false end
  local bufnr = api.nvim_get_current_buf()
  local state = state_of(bufnr)
  local function go()
    state.index = (state.index - 1 + count) % #state.items + 1
    state.cycled = true
    draw(bufnr)
  end
  if state.complete == state.items then
    go()
    return true
  end
  local now = left_of(bufnr, state.items[state.index])
  return ask(bufnr, INVOKED, function(items)
    if #items == 0 then return end
    local same
    for index, item in ipairs(items) do
      if left_of(bufnr, item) == now then same = index end
    end
    if not same then table.insert(items, 1, state.items[state.index]) end
    state.items, state.index, state.complete = items, same or 1, items
    go()
  end)
end

--- Dismisses the suggestion; the next automatic request is sent after a change.
function M.dismiss()
  if not M.visible() then return false end
  local bufnr = api.nvim_get_current_buf()
  local state = state_of(bufnr)
  cancel(state)
  state.items = nil
  hide(bufnr)
  return true
end

--- Returns the first word of a text with the blanks before it; a run of punctuation counts as a word.
function M.first_word(text)
  return text:match('^%s*[%w_\128-\255]+') or text:match('^%s*[^%w%s_\128-\255]+') or text
end

--- Returns the first line of a text, or the second one when the text begins with a line break.
function M.first_line(text) return text:match('^\n?[^\n]*') end

local parts = { all = function(text) return text end, word = M.first_word, line = M.first_line }

--- Inserts the suggestion or its first part into the buffer. Called by a key that `accept` feeds.
---@param part 'all'|'word'|'line'
function M.apply(part)
  local bufnr = api.nvim_get_current_buf()
  local state = state_of(bufnr)
  local item = state.items and state.items[state.index]
  local left = item and { left_of(bufnr, item) } or {}
  local text, tail = left[1], left[4]
  if not text then return insert.record() end
  cancel(state)
  local taken = parts[part](text)
  local whole = taken == text
  local replaced = whole and #tail or 0
  while not whole and replaced < #tail and around(taken, tail:sub(1, replaced + 1)) do
    replaced = replaced + 1 -- closing brackets in the accepted part
  end
  state.items = nil
  hide(bufnr)
  insert.record(taken, tail:sub(1, replaced))
  insert.insert(taken, tail:sub(1, replaced), function()
    if whole then
      if item.command then server.execute(item.client, item.command.command, item.command.arguments) end
      return
    end
    local row, column = unpack(api.nvim_win_get_cursor(0))
    local rest = { row = row - 1, start = column, text = text:sub(#taken + 1), tail = tail:sub(replaced + 1) }
    state.items = { vim.tbl_extend('force', item, rest) }
    state.index, state.cycled = 1, false
    draw(bufnr)
  end)
end

--- Accepts the suggestion or its first part, as a separate undo step. Returns false when none is shown. May be called
--- from an `<expr>` mapping: the text is changed by keys that are fed.
---@param part 'all'|'word'|'line'|nil
function M.accept(part)
  if not M.visible() then return false end
  local keys = ("%s<Cmd>lua require('codegen.ghost').apply('%s')<CR>"):format(menu.closing_key(), part or 'all')
  api.nvim_feedkeys(vim.keycode(keys), 'ni', false)
  return true
end

--- Turns suggestions on or off everywhere, or by `vim.b.codegen_enabled` in one buffer.
function M.toggle()
  M.enabled = not M.enabled
  if not M.enabled then
    for bufnr in pairs(states) do drop(bufnr) end
  end
  return M.enabled
end

function M.setup()
  api.nvim_set_hl(0, 'CodegenGhost', { link = 'Comment', default = true })
  api.nvim_set_hl(0, 'CodegenGhostMore', { link = 'NonText', default = true })
  local group = api.nvim_create_augroup('codegen.ghost', {})
  local function on(events, callback, pattern)
    api.nvim_create_autocmd(events, { group = group, pattern = pattern, callback = callback })
  end
  on({ 'CursorMovedI', 'TextChangedI', 'TextChangedP' }, function(event) on_change(event.buf) end)
  on({ 'CompleteChanged', 'CompleteDone' }, function(event)
    vim.schedule(function() on_change(event.buf) end)
  end)
  -- A plugin's menu opens and closes without an event of Neovim's, and changes how many lines can be shown.
  menu.on_plugin_menu(group, function()
    local bufnr = api.nvim_get_current_buf()
    if state_of(bufnr).drawn then draw(bufnr) end
  end)
  on('ModeChanged', function(event) on_change(event.buf) end, '*:i*')
  on('ModeChanged', function(event) drop(event.buf) end, 'i*:[^i]*')
  on({ 'InsertLeave', 'BufLeave', 'WinLeave' }, function(event) drop(event.buf) end)
  on('LspAttach', function(event)
    local client = vim.lsp.get_client_by_id(event.data.client_id)
    if not client or client.name ~= server.NAME then return end
    vim.schedule(function()
      if api.nvim_buf_is_valid(event.buf) then on_answerable(event.buf) end
    end)
  end)
  local answers = false -- a model is ready
  on('User', function()
    local state = server.status and server.status.state
    local before = answers
    answers = state == 'ready' or state == 'busy'
    if answers and not before then on_answerable(api.nvim_get_current_buf()) end
  end, 'CodegenStatus')
  on('LspDetach', function(event)
    local client = vim.lsp.get_client_by_id(event.data.client_id)
    if client and client.name == server.NAME then drop(event.buf) end
  end)
  on('BufWipeout', function(event)
    if not states[event.buf] then return end
    cancel(states[event.buf])
    states[event.buf] = nil
  end)
end

return M
