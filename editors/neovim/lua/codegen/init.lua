--- Inline completion by codegen-lsp: `require('codegen').setup{}`. The public interface of the plugin, described in
--- `:help codegen`.

local M = {}

--- Starts the server for the configured filetypes and maps the keys. May be called again with other options.
---@param options table?
function M.setup(options)
  if vim.fn.has('nvim-0.10') == 0 then
    vim.notify('codegen: Neovim 0.10 or later is needed.', vim.log.levels.ERROR)
    return
  end
  local config, server = require('codegen.config'), require('codegen.server')
  local problems = config.read(options)
  if #problems > 0 then server.notify(table.concat(problems, ' '), vim.log.levels.WARN) end
  if not config.current.native then require('codegen.ghost').setup() end
  require('codegen.keys').setup()
  server.setup()
  M.ready = true
end

--- Accepts the suggestion (`all`, `word`, `line`). Returns false when none is shown.
---@param part 'all'|'word'|'line'|nil
function M.accept(part) return require('codegen.ghost').accept(part) end

--- Dismisses the suggestion. Returns false when none is shown.
function M.dismiss() return require('codegen.ghost').dismiss() end

--- Shows the next suggestion, or the previous one with -1. Returns false when none is shown.
---@param count integer?
function M.cycle(count) return require('codegen.ghost').cycle(count or 1) end

--- Requests suggestions at the cursor. Returns false without a server.
function M.trigger() return require('codegen.ghost').trigger() end

--- Returns true while a suggestion is shown.
function M.visible() return require('codegen.ghost').visible() end

--- Turns suggestions on or off. Returns true when they are on now.
function M.toggle()
  if not require('codegen.config').current.native then return require('codegen.ghost').toggle() end
  local builtin = vim.lsp.inline_completion
  builtin.enable(not builtin.is_enabled())
  return builtin.is_enabled()
end

local words = { starting = ': starting', error = ': error', busy = '*', disabled = ' off' }

--- Returns the state in a few characters, for a statusline; empty in buffers without the server.
---@return string
function M.statusline()
  local server = package.loaded['codegen.server']
  if not server or not vim.tbl_contains(require('codegen.config').current.filetypes, vim.bo.filetype) then return '' end
  if not require('codegen.ghost').enabled or vim.b.codegen_enabled == false then return 'codegen off' end
  local state = server.status and server.status.state or 'starting'
  if server.loading and state ~= 'error' then return ('codegen: loading %d/100'):format(server.loading.percentage or 0) end
  if state == 'loading' then return 'codegen: loading' end
  if state ~= 'error' and require('codegen.question').waits() then return 'codegen?' end
  return 'codegen' .. (words[state] or '')
end

return M
