--- `:Codegen`: one command with subcommands. Each reports its result, and every change that it makes, in a message.

local config = require('codegen.config')
local server = require('codegen.server')

local M = {}

local function say(text) vim.api.nvim_echo({ { text } }, true, {}) end

local function with_client(act)
  local client = server.client()
  if client then return act(client) end
  local status = server.status
  local why = status and vim.trim(('%s %s'):format(status.message or '', status.advice or '')) or ''
  say('codegen: The server does not run. ' .. (why ~= '' and why or 'It starts with the first file of a configured filetype.'))
end

local function status()
  with_client(function()
    local now = server.status or { state = 'starting' }
    local model = type(now.model) == 'table' and now.model or nil
    local about = model and ('%s, %s on %s (%s)'):format(model.name, model.engine, model.device, model.computeType)
    local lines = { ('codegen: %s%s'):format(now.state, about and ', ' .. about or '') }
    if now.state ~= 'ready' and now.message and now.message ~= '' then lines[#lines + 1] = now.message end
    if now.advice and now.advice ~= '' then lines[#lines + 1] = now.advice end
    if not config.current.native and not require('codegen.ghost').enabled then
      lines[#lines + 1] = 'Suggestions are off; :Codegen toggle turns them on.'
    end
    say(table.concat(lines, '\n'))
  end)
end

local function toggle()
  say('codegen: suggestions are ' .. (require('codegen').toggle() and 'on' or 'off'))
end

local function model(name)
  with_client(function(client)
    if not name then
      local now = server.status and server.status.model
      return say('codegen: ' .. (type(now) == 'table' and ('the model is ' .. now.name) or 'no model is loaded'))
    end
    server.execute(client, 'codegen-lsp.switchModel', { name }, function(err, result)
      if err then return server.notify(err.message, vim.log.levels.ERROR) end
      say('codegen: the model is ' .. result.model)
    end)
  end)
end

local function explain()
  local bufnr = vim.api.nvim_get_current_buf()
  with_client(function(client)
    local params = server.client(bufnr) and { textDocument = vim.lsp.util.make_text_document_params(bufnr) } or vim.empty_dict()
    server.request(client, 'codegen-lsp/explain', params, nil, function(err, result)
      if err then return server.notify(err.message, vim.log.levels.ERROR) end
      say('codegen: ' .. result.message)
    end)
  end)
end

local function log()
  local file = vim.tbl_get(config.current.settings, 'log', 'file') or config.current.settings['log.file']
  local path = type(file) == 'string' and file ~= '' and vim.fs.normalize(file) or vim.lsp.log.get_filename()
  if vim.fn.getfsize(path) <= 0 then return say('codegen: nothing was logged yet (' .. vim.fn.fnamemodify(path, ':~') .. ')') end
  vim.cmd.tabedit(vim.fn.fnameescape(path))
  vim.bo.readonly = true
  vim.cmd.normal({ 'G', bang = true })
end

local function restart()
  server.restart()
  say('codegen: the server is started again')
end

local function trigger()
  if vim.fn.mode():sub(1, 1) == 'i' then return require('codegen').trigger() end
  -- From normal mode: at the end of the line, where typing continues.
  vim.cmd.startinsert({ bang = true })
  vim.schedule(function() require('codegen').trigger() end)
end

--- Returns the rows of `models list`, or none when the command fails.
local function models()
  local line = server.program('models', 'list', '--json')
  if not line then return {} end
  local ok, done = pcall(function() return vim.system(line, { text = true, env = server.env() }):wait(5000) end)
  if not ok or done.code ~= 0 then return {} end
  local read, rows = pcall(vim.json.decode, done.stdout, { luanil = { object = true } })
  return read and rows or {}
end

--- Returns a callback for a stream that calls `act` with each complete line.
local function by_line(act)
  local rest = ''
  return function(_, data)
    rest = rest .. (data or '')
    for line in rest:gmatch('([^\n]*)\n') do vim.schedule(function() act(line) end) end
    rest = rest:match('[^\n]*$')
  end
end

local pulling -- the process that pulls a model, or nil

--- Runs the command line that pulls a model. Where it lacks an extra, the user is asked whether to install it.
local run_pull
function run_pull(name, line)
  local failed, missing_extra
  local read = by_line(function(text)
    local ok, entry = pcall(vim.json.decode, text)
    if not ok or type(entry) ~= 'table' then return end
    if entry.error then failed = vim.trim(entry.error .. ' ' .. (entry.advice or '')) end
    missing_extra = entry.missing_extra or missing_extra
    if not entry.fraction then return end
    local shown = ('codegen: pulling %s %d%% %s'):format(name, entry.fraction * 100, entry.message or '')
    server.show_progress(shown)
  end)
  local options = { text = true, env = server.env(), stdout = read, detach = true }
  local ok, process = pcall(vim.system, line, options, function(done)
    vim.schedule(function()
      pulling = nil
      if done.signal ~= 0 then return server.notify(('The pull of %s was stopped; it goes on from there the next time.'):format(name)) end
      if done.code == 0 then return say(('codegen: %s is installed; :Codegen model %s runs it'):format(name, name)) end
      if missing_extra and not vim.list_contains(line, '--install') then
        local question = ('Packages that convert models are missing (the extra %s).\n'):format(missing_extra)
          .. "Install them with pip, into the server's environment?"
        if vim.fn.confirm(question, '&Yes\n&No', 2) ~= 1 then return server.notify(failed, vim.log.levels.WARN) end
        return run_pull(name, vim.list_extend(vim.list_slice(line), { '--install' }))
      end
      local lines = vim.split(vim.trim(done.stderr or ''), '\n')
      server.notify(failed or lines[#lines], vim.log.levels.ERROR)
    end)
  end)
  if not ok then return server.notify(tostring(process), vim.log.levels.ERROR) end
  pulling = process
end

local function pull(name)
  if pulling and not name then
    pulling:kill('sigterm')
    return
  end
  if pulling then return server.notify('A model is being pulled; `:Codegen pull` without a name stops it.', vim.log.levels.WARN) end
  if not name then return server.notify('Name the model: :Codegen pull NAME.', vim.log.levels.WARN) end
  local line = server.program('models', 'pull', name, '--json')
  if not line then return server.notify('The option `cmd` names no program that can pull models.', vim.log.levels.ERROR) end
  for _, row in ipairs(models()) do
    if row.name == name and row.needs_consent then
      local question = ('%s is licensed as %s. Do you agree to its terms?'):format(name, row.license)
      if vim.fn.confirm(question, '&Yes\n&No', 2) ~= 1 then return end
      line[#line + 1] = '--accept-license'
    end
  end
  run_pull(name, line)
end

--- Opens the split of a session; with words behind it, asks for them as the next step.
local function session(_, arguments)
  local request = table.concat(vim.list_slice(arguments, 2), ' ')
  require('codegen.session').command(request ~= '' and request or nil)
end

--- Lists the models for this machine, see `codegen.advice`. With `measure`, the machine is measured again.
local function advise(what)
  if what and what ~= 'measure' then
    return server.notify('`:Codegen models` takes no name; `:Codegen models measure` measures this machine again.', vim.log.levels.WARN)
  end
  with_client(function(client) require('codegen.advice').choose(client, what == 'measure') end)
end

M.subcommands = {
  answer = function() require('codegen.question').answer() end,
  continue = function() require('codegen.session').continue() end,
  explain = explain,
  health = function() vim.cmd.checkhealth('codegen') end,
  log = log,
  model = model,
  models = advise,
  pull = pull,
  restart = restart,
  session = session,
  status = status,
  toggle = toggle,
  trigger = trigger,
}

--- Runs `:Codegen` with its arguments; without any, `status`.
---@param arguments string[]
function M.run(arguments)
  local act = M.subcommands[arguments[1] or 'status']
  if not act then
    local there = table.concat(M.names(), ', ')
    return server.notify(('There is no :Codegen %s. There are: %s.'):format(arguments[1], there), vim.log.levels.ERROR)
  end
  if not require('codegen').ready and arguments[1] ~= 'health' then
    return server.notify("Call require('codegen').setup{} in your configuration first.", vim.log.levels.WARN)
  end
  act(arguments[2], arguments)
end

function M.names()
  local names = vim.tbl_keys(M.subcommands)
  table.sort(names)
  return names
end

--- Returns the names that fit a subcommand: installed models for `model`, the others for `pull`.
local function names_for(subcommand)
  if subcommand == 'models' then return { 'measure' } end
  local named = {}
  for _, row in ipairs((subcommand == 'model' or subcommand == 'pull') and models() or {}) do
    if (subcommand == 'model') == (row.path ~= nil) then named[#named + 1] = row.name end
  end
  return named
end

--- Completes the command line.
function M.complete(lead, line)
  local words = vim.split(vim.trim(line), '%s+')
  local second = #words > 2 or (#words == 2 and lead == '')
  local choices = second and names_for(words[2]) or M.names()
  return vim.tbl_filter(function(choice) return vim.startswith(choice, lead) end, choices)
end

return M
