--- `:Codegen`: one command with subcommands. What it is asked for it says in a message; nothing is changed silently.

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
    local lines = { 'codegen: ' .. now.state }
    if now.message and now.message ~= '' then lines[#lines + 1] = now.message end
    if now.advice and now.advice ~= '' then lines[#lines + 1] = now.advice end
    local model = type(now.model) == 'table' and now.model or nil
    if model then
      lines[#lines + 1] = ('model %s, %s on %s (%s)'):format(model.name, model.engine, model.device, model.computeType)
    end
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
  -- From normal mode: at the end of the line, where one goes on typing.
  vim.cmd.startinsert({ bang = true })
  vim.schedule(function() require('codegen').trigger() end)
end

M.subcommands = {
  explain = explain,
  health = function() vim.cmd.checkhealth('codegen') end,
  log = log,
  model = model,
  restart = restart,
  status = status,
  toggle = toggle,
  trigger = trigger,
}

--- Runs `:Codegen` with its arguments; without any, `status`.
---@param arguments string[]
function M.run(arguments)
  local act = M.subcommands[arguments[1] or 'status']
  if not act then
    return server.notify(('There is no :Codegen %s. There are: %s.'):format(arguments[1], table.concat(M.names(), ', ')), vim.log.levels.ERROR)
  end
  if not require('codegen').ready and arguments[1] ~= 'health' then
    return server.notify("Call require('codegen').setup{} in your configuration first.", vim.log.levels.WARN)
  end
  act(arguments[2])
end

function M.names()
  local names = vim.tbl_keys(M.subcommands)
  table.sort(names)
  return names
end

--- Names of the models that are installed.
local function installed()
  local line = server.program('models', 'list', '--json')
  if not line then return {} end
  local ok, done = pcall(function() return vim.system(line, { text = true, env = config.current.cmd_env }):wait(5000) end)
  if not ok or done.code ~= 0 then return {} end
  local read, models = pcall(vim.json.decode, done.stdout)
  local names = {}
  for _, entry in ipairs(read and models or {}) do
    if type(entry.path) == 'string' then names[#names + 1] = entry.name end
  end
  return names
end

--- Completion of the command line.
function M.complete(lead, line)
  local words = vim.split(vim.trim(line), '%s+')
  local second = #words > 2 or (#words == 2 and lead == '')
  local choices = second and (words[2] == 'model' and installed() or {}) or M.names()
  return vim.tbl_filter(function(choice) return vim.startswith(choice, lead) end, choices)
end

return M
