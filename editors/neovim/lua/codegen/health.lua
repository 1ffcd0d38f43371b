--- `:checkhealth codegen`: checks everything that a suggestion needs, in the order in which it is needed.

local M = {}

local function check_program(health, server)
  local cmd, where = server.command()
  if not cmd then
    health.error(where)
    return
  end
  health.ok(('Server: %s (found by %s)'):format(table.concat(cmd, ' '), where))
  local line = server.program('--version')
  if not line then return end
  local ok, done = pcall(function() return vim.system(line, { text = true, env = server.env() }):wait(20000) end)
  if ok and done.code == 0 then
    health.ok(vim.trim(done.stdout))
  else
    health.error('The program does not run: ' .. vim.trim(ok and done.stderr or tostring(done)), 'Set it up again: make demo')
  end
end

local function check_server(health, server)
  local client = server.client()
  if not client then
    health.warn('The server does not run.', 'It starts with the first file of a configured filetype that has a name.')
    return
  end
  local buffers = vim.tbl_count(client.attached_buffers)
  health.ok(('The server runs; attached buffers: %d.'):format(buffers))
  local status = server.status
  if not status then
    health.warn('The server has not said anything about its state yet.')
  elseif status.state == 'error' then
    health.error(status.message, status.advice ~= '' and status.advice or nil)
  else
    health.ok(('State: %s. %s'):format(status.state, status.message or ''))
  end
  local model = status and type(status.model) == 'table' and status.model
  if model then health.ok(('Model: %s, %s on %s (%s)'):format(model.name, model.engine, model.device, model.computeType)) end
end

local function check_keys(health, config)
  for action, key in vim.spairs(config.current.keys) do
    local unused = config.current.native and not vim.tbl_contains({ 'accept', 'next', 'prev' }, action)
    if key and not unused then
      local map = vim.fn.maparg(key, 'i', false, true)
      if map.desc and vim.startswith(map.desc, 'codegen: ') then
        health.ok(('%s: %s'):format(key, action))
      else
        local whose = map.buffer == 1 and 'in this buffer' or 'since setup()'
        health.warn(('%s is mapped to something else %s, so it does not %s.'):format(key, whose, action:gsub('_', ' ')))
      end
    end
  end
end

function M.check()
  local health = vim.health
  health.start('codegen')
  if vim.fn.has('nvim-0.10') == 0 then
    health.error('Neovim 0.10 or later is needed.')
    return
  end
  health.ok('Neovim ' .. tostring(vim.version()))
  local config, server = require('codegen.config'), require('codegen.server')
  if not require('codegen').ready then
    health.error("setup() was not called.", "Put require('codegen').setup{} into your configuration.")
  end
  check_program(health, server)
  check_server(health, server)
  health.start('codegen: keys')
  if require('codegen').ready then check_keys(health, config) end
end

return M
