--- Questions of the server (`window/showMessageRequest`), such as whether to use an adapted model. They wait for
--- `:Codegen answer`: a prompt that opened by itself would take the keys that are being typed.

local server = require('codegen.server')

local M = {}

local waiting = {} -- the questions, oldest first

--- Keeps a question, and tells of it; returns the chosen action, or null, to the server. Called in a coroutine of its own.
function M.ask(_, params, context)
  local thread, is_main = coroutine.running()
  if not thread or is_main then return vim.NIL end
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

--- Lets the user answer the oldest question. A list that is left without a choice keeps it.
function M.answer()
  local question = waiting[1]
  if not question then return server.notify('The server has no question.') end
  local options = {
    prompt = question.params.message,
    kind = 'codegen-question',
    format_item = function(action) return action.title end,
  }
  vim.ui.select(question.params.actions or {}, options, function(action)
    if not action or not vim.tbl_contains(waiting, question) then return end
    waiting = vim.tbl_filter(function(other) return other ~= question end, waiting)
    server.changed()
    coroutine.resume(question.thread, action)
  end)
end

return M
