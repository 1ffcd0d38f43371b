--- Keys of insert mode. Without a suggestion, a key does what it did before: the mapping of the user, of a plugin or of
--- Neovim, or its unmapped meaning.

local config = require('codegen.config')

local M = {}

M.PLUG = '<Plug>(codegen-else-%s)'
local mapped = {} -- keys by action, as they were mapped

local function actions()
  if config.current.native then
    local builtin = vim.lsp.inline_completion
    local function select(count)
      return function()
        builtin.select({ count = count })
        return true
      end
    end
    return { accept = builtin.get, next = select(1), prev = select(-1) }
  end
  local ghost = require('codegen.ghost')
  return {
    accept = function() return ghost.accept('all') end,
    accept_word = function() return ghost.accept('word') end,
    accept_line = function() return ghost.accept('line') end,
    dismiss = ghost.dismiss,
    next = function() return ghost.cycle(1) end,
    prev = function() return ghost.cycle(-1) end,
    trigger = ghost.trigger,
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
      vim.keymap.set('i', key, function()
        if act() then return '' end
        return plug
      end, { expr = true, remap = true, desc = 'codegen: ' .. action:gsub('_', ' ') })
      mapped[action] = key
    end
  end
end

return M
