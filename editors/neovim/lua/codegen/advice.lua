--- `:Codegen models`: which model suits this machine. The server measures the machine the first time; another
--- `:Codegen models` meanwhile stops that.

local server = require('codegen.server')

local M = {}

local asking -- { client, id } of the request that is being answered, or nil

--- Returns a value of JSON, nil for null.
local function given(value) return value ~= vim.NIL and value or nil end

local function size(megabytes)
  return megabytes < 1000 and ('%d MB'):format(megabytes) or ('%.1f GB'):format(megabytes / 1000)
end

--- Returns the line of a model in the list.
local function line_of(row, advice)
  local first, suggestion = given(row.firstTokenMs), given(row.suggestionMs)
  local parts = { ('%s%s'):format(row.name == given(advice.recommended) and '* ' or '  ', row.name) }
  if first and suggestion then
    local tokens, how = advice.aims.suggestionTokens, row.measured and '' or ' (predicted)'
    parts[#parts + 1] = ('first token %.0f ms, %d tokens %.0f ms%s'):format(first, tokens, suggestion, how)
  end
  local download = given(row.downloadMb)
  parts[#parts + 1] = row.verdict == 'within' and 'within the aims' or row.reason
  parts[#parts + 1] = download and size(download) .. ' to download' or row.state
  parts[#parts + 1] = row.license
  if row.goodFor ~= '' then parts[#parts + 1] = row.goodFor end
  return table.concat(parts, '; ')
end

--- Runs an installed model; puts the command that installs another one into the unnamed register.
local function take(client, row)
  if given(row.downloadMb) then
    vim.fn.setreg('"', row.command)
    local text = 'codegen: :Codegen pull %s installs it ("" holds the command)'
    return vim.api.nvim_echo({ { text:format(row.name) } }, true, {})
  end
  server.execute(client, 'codegen-lsp.switchModel', { row.name }, function(err)
    if err then return server.notify(err.message, vim.log.levels.ERROR) end
    vim.api.nvim_echo({ { ('codegen: the model is %s until Neovim ends'):format(row.name) } }, true, {})
  end)
end

local function show(client, advice)
  local options = {
    prompt = vim.trim(advice.recommendation .. ' ' .. advice.note),
    kind = 'codegen-model',
    format_item = function(row) return line_of(row, advice) end,
  }
  vim.ui.select(advice.models, options, function(row)
    if row then take(client, row) end
  end)
end

--- Requests the advice and lists the models. `again`: measure the machine again.
function M.choose(client, again)
  if asking then
    server.cancel(asking.client, asking.id)
    asking = nil
    return server.notify('The measuring of this machine was stopped.')
  end
  local id = server.request(client, 'codegen-lsp/modelAdvice', { measure = again and 'again' or 'ifNeeded' }, nil, function(err, advice)
    local stopped = not asking
    asking = nil
    if err and stopped then return end
    if err then return server.notify(err.message, vim.log.levels.WARN) end
    show(client, advice)
  end)
  asking = id and { client = client, id = id }
end

return M
