--- Questions of the server (`window/showMessageRequest`). Those that nobody waits for, such as whether to use an adapted
--- model, wait for `:Codegen answer`: a prompt that opened by itself would take the keys that are being typed.

local server = require('codegen.server')

local M = {}

local waiting = {} -- the questions, in the order in which they are shown

--- Returns true while the user waits for a command of the server, such as a refactoring, which may be what asks.
local function is_awaited(client_id)
  local client = vim.lsp.get_client_by_id(client_id)
  for _, request in pairs(client and client.requests or {}) do
    local by_user = request.method == 'workspace/executeCommand' or request.method == 'codeAction/resolve'
    if by_user and request.type == 'pending' then return true end
  end
  return false
end

--- Has the user choose an action of a question.
local function choose(params, done)
  local options = {
    prompt = params.message,
    kind = 'codegen-question',
    format_item = function(action) return action.title end,
  }
  vim.ui.select(params.actions, options, done)
end

--- Asks a question that the user waits for; keeps another one, and tells of it. Returns the chosen action, or null, to
--- the server. Called in a coroutine of its own.
function M.ask(_, params, context)
  local thread, is_main = coroutine.running()
  if not thread or is_main then return vim.NIL end
  if type(params.actions) ~= 'table' or #params.actions == 0 then
    server.notify(params.message) -- there is nothing to choose
    return vim.NIL
  end
  if is_awaited(context.client_id) then
    choose(params, function(action)
      vim.schedule(function() coroutine.resume(thread, action or vim.NIL) end)
    end)
    return coroutine.yield()
  end
  waiting[#waiting + 1] = { client = context.client_id, params = params, thread = thread }
  server.notify('The server has a question; :Codegen answer shows it.')
  server.changed()
  return coroutine.yield()
end

--- Returns true while a question waits.
function M.waits() return #waiting > 0 end

--- Drops the questions of a client that has ended.
function M.forget(client_id)
  waiting = vim.tbl_filter(function(question) return question.client ~= client_id end, waiting)
end

--- Lets the user answer a question, the oldest first. One that is left without a choice is kept, behind the others.
function M.answer()
  local question = waiting[1]
  if not question then return server.notify('The server has no question.') end
  choose(question.params, function(action)
    if not vim.tbl_contains(waiting, question) then return end
    waiting = vim.tbl_filter(function(other) return other ~= question end, waiting)
    if not action then
      waiting[#waiting + 1] = question
      return
    end
    server.changed()
    coroutine.resume(question.thread, action)
  end)
end

return M
