--- Keys of insert mode. Without a suggestion, a key does what it did before: the mapping of the user, of a plugin or of
--- Neovim, or its unmapped meaning.

local config = require('codegen.config')
local insert = require('codegen.insert')
local server = require('codegen.server')

local M = {}

M.PLUG = '<Plug>(codegen-else-%s)'
local mapped = {} -- keys by action, as they were mapped

--- Returns the keys that jump to the next place of an active snippet, or nil. `otherwise` are the keys for the previous
--- meaning of Tab, to which a snippet plugin has mapped its jump.
local function jump(otherwise)
  if vim.snippet.active({ direction = 1 }) then return '<Cmd>lua vim.snippet.jump(1)<CR>' end
  local luasnip = package.loaded['luasnip']
  local ok, active = pcall(function() return luasnip.locally_jumpable(1) end)
  return ok and active and otherwise or nil
end

--- Accepts the suggestion that Neovim's own inline completion shows. Returns false when none is shown.
local function accept_native()
  local item, finished
  local function keep_item(found) item = found end
  if not vim.lsp.inline_completion.get({ on_accept = keep_item }) then return false end
  -- `get` calls back from the event loop.
  vim.schedule(function() finished = true end)
  vim.wait(1000, function() return finished end, 1)
  if not item then return true end
  local row, column = unpack(vim.api.nvim_win_get_cursor(0))
  local line, range = vim.api.nvim_get_current_line(), item.range
  local from, to = column, column
  if range then
    local start_row, start_column, end_row, end_column = range:to_extmark()
    if start_row ~= row - 1 or end_row ~= row - 1 then return true end
    from, to = start_column, end_column
  end
  local typed = line:sub(from + 1, column)
  if from > column or to < column or not vim.startswith(item.insert_text, typed) then return true end
  local text, tail = item.insert_text:sub(#typed + 1), line:sub(column + 1, to)
  insert.record(text, tail)
  insert.insert(text, tail, function()
    local client = vim.lsp.get_client_by_id(item.client_id)
    if client and item.command then server.execute(client, item.command.command, item.command.arguments) end
  end)
  return true
end

--- Returns an action that is recorded in macros as one that changes no text.
local function without_text(act)
  return function()
    if not act() then return false end
    insert.record()
    return true
  end
end

local function actions()
  if config.current.native then
    local builtin = vim.lsp.inline_completion
    local function select(count)
      return without_text(function()
        builtin.select({ count = count })
        return true
      end)
    end
    return { accept = accept_native, next = select(1), prev = select(-1) }
  end
  local ghost = require('codegen.ghost')
  return {
    accept = function() return ghost.accept('all') end,
    accept_word = function() return ghost.accept('word') end,
    accept_line = function() return ghost.accept('line') end,
    dismiss = without_text(ghost.dismiss),
    next = without_text(function() return ghost.cycle(1) end),
    prev = without_text(function() return ghost.cycle(-1) end),
    trigger = without_text(ghost.trigger),
  }
end

--- Keeps the key's present mapping under another name.
local function keep(action, key)
  local plug = M.PLUG:format(action)
  local before = vim.fn.maparg(key, 'i', false, true)
  if vim.tbl_isempty(before) or before.buffer == 1 then
    vim.keymap.set('i', plug, key, { desc = 'The key itself' })
    return plug
  end
  before.lhs, before.lhsraw, before.lhsrawalt = plug, vim.keycode(plug), nil
  vim.fn.mapset('i', false, before)
  return plug
end

--- Returns true for a key that this module has mapped.
function M.is_ours(action) return mapped[action] ~= nil end

--- Removes all mappings.
local function release()
  for action, key in pairs(mapped) do
    local plug = M.PLUG:format(action)
    local before = vim.fn.maparg(plug, 'i', false, true)
    pcall(vim.keymap.del, 'i', key)
    if not vim.tbl_isempty(before) and before.desc ~= 'The key itself' then
      before.lhs, before.lhsraw, before.lhsrawalt = key, vim.keycode(key), nil
      vim.fn.mapset('i', false, before)
    end
    pcall(vim.keymap.del, 'i', plug)
  end
  mapped = {}
end

function M.setup()
  release()
  for action, act in pairs(actions()) do
    local key = config.current.keys[action]
    if key and key ~= '' then
      local plug = keep(action, key)
      local is_tab = vim.keycode(key) == '\t'
      vim.keymap.set('i', key, function()
        if insert.executing() and insert.replay() then return '' end
        local keys = is_tab and jump(plug)
        if keys then return keys end
        return not insert.executing() and act() and '' or plug
      end, { expr = true, remap = true, desc = 'codegen: ' .. action:gsub('_', ' ') })
      mapped[action] = key
    end
  end
end

return M
