--- The language server: finds the program, starts one server for the session, attaches buffers to it, restarts it when
--- it dies, and keeps its last status. One server for all projects, since each would load a model of its own.

local config = require('codegen.config')

local M = {}

M.NAME = 'codegen-lsp'

local MOST_DEATHS, WITHIN = 5, 60000 -- the most deaths within WITHIN milliseconds before it stays down
local FIRST_WAIT = 250 -- milliseconds before the first restart; doubled each time

--- Last `codegen-lsp/status`, or nil. `failed`: the server died too often and is not restarted.
M.status = nil
--- Percentage and message while a model loads, or nil.
M.loading = nil

local deaths = {}
local restarting = {} -- ids of clients that were stopped for a restart
local told_missing = false
local opened_as = {} -- languages by buffer
local renamed = {} -- ids of the clients of buffers that are being renamed

--- Calls a client's method; Neovim 0.11 changed its signature.
local function call(client, method, ...)
  if vim.fn.has('nvim-0.11') == 1 then return client[method](client, ...) end
  return client[method](...)
end

--- Has the statusline drawn again.
function M.changed()
  vim.cmd.redrawstatus({ bang = true })
  vim.api.nvim_exec_autocmds('User', { pattern = 'CodegenStatus', modeline = false })
end

local function set_status(status)
  local was = M.status
  M.status = status
  M.changed()
  if status.state == 'error' and not (was and was.state == 'error' and was.message == status.message) then
    M.notify(vim.trim(('%s %s'):format(status.message or '', status.advice or '')), vim.log.levels.WARN)
  end
end

--- Returns as much of a text as fits into a line of this many cells.
local function cut(text, room)
  local count = room
  while vim.fn.strdisplaywidth(vim.fn.strcharpart(text, 0, count)) > room do count = count - 1 end
  return vim.fn.strcharpart(text, 0, count)
end

--- Shows how far something is, in one line that is not kept among the messages.
function M.show_progress(text)
  vim.api.nvim_echo({ { cut(text, math.max(vim.o.columns - 20, 10)), 'Comment' } }, false, {})
end

--- Returns true in modes in which keys are text: Insert, Replace, Select and Terminal mode, also during i_CTRL-O.
local function is_typing()
  local mode = vim.api.nvim_get_mode().mode
  return mode:match('^[iRsS\19t]') ~= nil or mode:match('^ni') ~= nil
end

--- Shows a message. While text is being typed, one that does not fit a line is cut, and shown whole afterwards: a prompt
--- to press Enter would take a key.
function M.notify(message, level)
  local text, room = 'codegen: ' .. message, math.max(vim.o.columns - 20, 20)
  level = level or vim.log.levels.INFO
  if not is_typing() or (not text:find('\n') and vim.fn.strdisplaywidth(text) <= room) then return vim.notify(text, level) end
  local line = text:gsub('%s*\n%s*', ' ')
  vim.notify(cut(line, room - 1) .. '…', level)
  local function show() vim.notify(text, level) end
  -- Not InsertLeave, which i_CTRL-C does not trigger.
  vim.api.nvim_create_autocmd('ModeChanged', {
    pattern = { '*:n', '*:nt' },
    once = true,
    callback = function() vim.schedule(show) end,
  })
end

--- Returns the program in the clone that contains this plugin.
local function of_clone()
  local here = debug.getinfo(1, 'S').source:sub(2)
  local root = vim.fn.fnamemodify(vim.uv.fs_realpath(here) or here, ':p:h:h:h:h:h')
  for _, path in ipairs({ '/.venv/bin/codegen-lsp', '/.venv/Scripts/codegen-lsp.exe' }) do
    if vim.fn.executable(root .. path) == 1 then return root .. path end
  end
end

--- Returns the command line of the server and its origin; without one, nil and advice.
---@return string[]?, string
function M.command()
  local cmd = config.current.cmd
  if cmd then
    if vim.fn.executable(cmd[1] or '') == 1 then return cmd, 'the option `cmd`' end
    return nil, ('The option `cmd` names %s, which is no program.'):format(vim.inspect(cmd[1]))
  end
  local path = vim.fn.exepath('codegen-lsp')
  if path ~= '' then return { path, 'serve' }, 'PATH' end
  path = of_clone()
  if path then return { path, 'serve' }, 'the clone of the plugin' end
  return nil, 'The program codegen-lsp was not found. Run `make demo` in the clone, put it on PATH, or set the option `cmd`.'
end

--- Returns the command line of another command of the same program, or nil when `cmd` is not its `serve`.
function M.program(...)
  local cmd = M.command()
  if not cmd or cmd[#cmd] ~= 'serve' then return nil end
  local line = vim.list_slice(cmd, 1, #cmd - 1)
  return vim.list_extend(line, { ... })
end

--- Returns the variables for a process of the server: those of the option `cmd_env`, and PYTHONPATH without entries that
--- stand for the current folder, the user's project: Python would run a `sitecustomize.py` there.
function M.env()
  local env = vim.tbl_extend('force', {}, config.current.cmd_env or {})
  local path = env.PYTHONPATH or vim.env.PYTHONPATH
  if path then
    local between = vim.fn.has('win32') == 1 and ';' or ':'
    local function absolute(folder) return folder:match('^/') or folder:match('^%a:[/\\]') end
    env.PYTHONPATH = table.concat(vim.tbl_filter(absolute, vim.split(path, between, { plain = true })), between)
  end
  return env
end

--- Returns the running client; with a buffer, only if it is attached there.
---@param bufnr integer?
function M.client(bufnr)
  local clients = vim.lsp.get_clients({ name = M.NAME, bufnr = bufnr })
  for _, client in ipairs(clients) do
    if not call(client, 'is_stopped') and not restarting[client.id] then return client end
  end
end

--- Sends a request. `handler(err, result)` is called with the answer. Returns the id of the request, or nil.
function M.request(client, method, params, bufnr, handler)
  local sent, id = call(client, 'request', method, params, handler, bufnr)
  return sent and id or nil
end

function M.cancel(client, id)
  if not call(client, 'is_stopped') then call(client, 'cancel_request', id) end
end

--- Runs a command of the server. `done(err, result)`.
function M.execute(client, command, arguments, done)
  return M.request(client, 'workspace/executeCommand', { command = command, arguments = arguments }, nil, done or function() end)
end

--- Returns true if the server is wanted in a buffer: a file of a configured type.
function M.wanted(bufnr)
  return vim.api.nvim_buf_is_loaded(bufnr)
    and vim.bo[bufnr].buftype == ''
    and vim.api.nvim_buf_get_name(bufnr) ~= ''
    and vim.tbl_contains(config.current.filetypes, vim.bo[bufnr].filetype)
end

local function add_folder(client, root)
  if not root then return end
  local uri = vim.uri_from_fname(root)
  for _, folder in ipairs(client.workspace_folders or {}) do
    if folder.uri == uri then return end
  end
  local folder = { uri = uri, name = root }
  client.workspace_folders = vim.list_extend(client.workspace_folders or {}, { folder })
  call(client, 'notify', 'workspace/didChangeWorkspaceFolders', { event = { added = { folder }, removed = {} } })
end

local function on_progress(client_id, value)
  local client = vim.lsp.get_client_by_id(client_id)
  if not client or client.name ~= M.NAME or type(value) ~= 'table' then return end
  if value.kind == 'end' then
    M.loading = nil
  else
    local before = value.kind == 'report' and M.loading or {}
    M.loading = {
      percentage = value.percentage or before.percentage,
      message = value.message or before.message,
      title = value.title or before.title or 'loading',
    }
  end
  M.changed()
  if not config.current.progress or vim.api.nvim_get_mode().mode ~= 'n' then return end
  local now = M.loading
  local text = now and ('codegen: %s %d%% %s'):format(now.title, now.percentage or 0, now.message or '') or ''
  M.show_progress(text)
end

local function attach_all()
  for _, bufnr in ipairs(vim.api.nvim_list_bufs()) do M.attach(bufnr) end
end

local function on_exit(code, signal, client_id)
  local wanted_end = restarting[client_id]
  restarting[client_id] = nil
  M.loading = nil
  require('codegen.question').forget(client_id)
  if vim.v.exiting ~= vim.NIL then return end
  if wanted_end then return vim.schedule(attach_all) end
  local now = vim.uv.now()
  deaths = vim.tbl_filter(function(at) return now - at < WITHIN end, deaths)
  deaths[#deaths + 1] = now
  local how = signal ~= 0 and ('signal %d'):format(signal) or ('status %d'):format(code)
  if #deaths > MOST_DEATHS then
    return set_status({
      state = 'error',
      failed = true,
      message = ('The server ended %d times within a minute (%s).'):format(#deaths, how),
      advice = 'Look at :Codegen log; :Codegen restart starts it again.',
    })
  end
  set_status({ state = 'starting', message = ('The server ended (%s) and is started again.'):format(how) })
  vim.defer_fn(attach_all, FIRST_WAIT * 2 ^ (#deaths - 1))
end

local function client_config(cmd, root)
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  capabilities.textDocument.inlineCompletion = { dynamicRegistration = false }
  local settings = config.current.settings
  local given = next(settings) ~= nil
  return {
    name = M.NAME,
    cmd = cmd,
    cmd_env = M.env(),
    root_dir = root,
    capabilities = capabilities,
    init_options = given and settings or nil,
    settings = given and { [M.NAME] = settings } or nil,
    handlers = {
      ['codegen-lsp/status'] = function(_, status, context)
        if not restarting[context.client_id] then set_status(status) end
      end,
      ['window/showMessage'] = function(_, params)
        local types = vim.lsp.protocol.MessageType
        local levels = { [types.Error] = vim.log.levels.ERROR, [types.Warning] = vim.log.levels.WARN }
        M.notify(params.message, levels[params.type])
      end,
      ['window/showMessageRequest'] = function(...) return require('codegen.question').ask(...) end,
    },
    on_exit = function(...)
      local args = { ... }
      vim.schedule(function() on_exit(unpack(args)) end)
    end,
  }
end

local function show_with_neovim(client, bufnr)
  local builtin = vim.lsp.inline_completion
  if config.current.native then
    builtin.enable(true, { bufnr = bufnr })
  elseif builtin and builtin.is_enabled({ client_id = client.id }) then
    builtin.enable(false, { client_id = client.id }) -- otherwise both would show the suggestion
  end
end

--- Attaches a buffer to the server, starting it if needed. Ignores buffers of other filetypes and without a name.
---@param bufnr integer
function M.attach(bufnr)
  if not M.wanted(bufnr) or (M.status and M.status.failed) then return end
  local cmd, advice = M.command()
  if not cmd then
    if not told_missing then M.notify(advice, vim.log.levels.WARN) end
    told_missing = true
    M.status = { state = 'error', message = advice, advice = '' }
    return
  end
  local root = vim.fs.root(bufnr, config.current.root_markers)
  vim.lsp.start(client_config(cmd, root), {
    bufnr = bufnr,
    reuse_client = function(client) return client.name == M.NAME and not restarting[client.id] and not call(client, 'is_stopped') end,
  })
end

local function language_of(client, bufnr) return client.get_language_id(bufnr, vim.bo[bufnr].filetype) end

--- Closes a buffer's document on the server. It must be attached again before its text changes: Neovim would never again
--- tell the server of changes.
local function detach(bufnr)
  local client = M.client(bufnr)
  renamed[bufnr] = client and client.id
  if client then vim.lsp.buf_detach_client(bufnr, client.id) end
end

--- Opens the document of a renamed buffer under its new name.
local function attach_again(bufnr)
  local id = renamed[bufnr]
  renamed[bufnr] = nil
  if id then return vim.lsp.buf_attach_client(bufnr, id) end
  M.attach(bufnr)
end

--- Opens a buffer's document after its file type was set; one that is open, under its new language. Buffers whose new
--- type is not served stay open in that language, but nothing is requested in them.
local function on_filetype(bufnr)
  local client = M.client(bufnr)
  if not client then return M.attach(bufnr) end
  local language, before = language_of(client, bufnr), client.attached_buffers[bufnr]
  if type(before) ~= 'string' then before = opened_as[bufnr] end
  if language == before then return end -- Neovim 0.12 may have done this already
  detach(bufnr)
  attach_again(bufnr)
end

function M.on_attach(client, bufnr)
  opened_as[bufnr] = language_of(client, bufnr)
  add_folder(client, vim.fs.root(bufnr, config.current.root_markers))
  show_with_neovim(client, bufnr)
end

--- Restarts the server.
function M.restart()
  deaths, told_missing = {}, false
  local clients = vim.lsp.get_clients({ name = M.NAME })
  M.status = { state = 'starting', message = 'The server is started.' }
  if #clients == 0 then return attach_all() end
  for _, client in ipairs(clients) do
    restarting[client.id] = true
    call(client, 'stop')
    -- Don't wait for a server that hangs.
    vim.defer_fn(function()
      if restarting[client.id] and not call(client, 'is_stopped') then call(client, 'stop', true) end
    end, 3000)
  end
end

function M.setup()
  local group = vim.api.nvim_create_augroup('codegen.server', {})
  local function on(event, act)
    vim.api.nvim_create_autocmd(event, { group = group, callback = function(about) act(about.buf) end })
  end
  on('FileType', on_filetype)
  -- Neovim itself closes the document under its old name only when the buffer is written.
  on('BufFilePre', detach)
  on('BufFilePost', attach_again)
  on('BufWipeout', function(bufnr)
    opened_as[bufnr], renamed[bufnr] = nil, nil
  end)
  vim.api.nvim_create_autocmd('LspAttach', {
    group = group,
    callback = function(event)
      local client = vim.lsp.get_client_by_id(event.data.client_id)
      if client and client.name == M.NAME then M.on_attach(client, event.buf) end
    end,
  })
  vim.api.nvim_create_autocmd('LspProgress', {
    group = group,
    callback = function(event)
      local params = event.data and event.data.params
      if params then on_progress(event.data.client_id, params.value) end
    end,
  })
  attach_all()
end

return M
