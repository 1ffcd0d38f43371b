--- The popup menu of Neovim's completion, and the menus of nvim-cmp and blink.cmp. A suggestion continues the selected
--- entry; while a menu covers the lines below the cursor, only the first line of a suggestion is shown.

local M = {}

local changed -- called when a plugin's menu opens or closes
local told -- the nvim-cmp module that calls it

local function loaded(name, visible)
  local plugin = package.loaded[name]
  if type(plugin) ~= 'table' or not plugin[visible] then return false end
  local ok, shown = pcall(plugin[visible])
  return ok and shown == true
end

--- Registers with nvim-cmp for the events of its menu, once it is loaded.
local function listen_to_cmp()
  local cmp = package.loaded['cmp']
  if not changed or type(cmp) ~= 'table' or not cmp.event or told == cmp then return end
  told = cmp
  for _, event in ipairs({ 'menu_opened', 'menu_closed' }) do
    pcall(cmp.event.on, cmp.event, event, function() vim.schedule(function() changed() end) end)
  end
end

--- Returns true while a menu is open.
function M.visible()
  listen_to_cmp()
  return vim.fn.pumvisible() == 1 or loaded('cmp', 'visible') or loaded('blink.cmp', 'is_visible')
end

--- Calls `act` whenever the menu of a plugin has opened or closed.
---@param group integer of autocommands
---@param act fun()
function M.on_plugin_menu(group, act)
  changed = act
  vim.api.nvim_create_autocmd('User', {
    group = group,
    pattern = { 'BlinkCmpMenuOpen', 'BlinkCmpMenuClose' },
    callback = function() vim.schedule(act) end,
  })
end

--- Returns the selected entry of Neovim's menu, or nil.
function M.word()
  if vim.fn.pumvisible() == 0 then return nil end
  local info = vim.fn.complete_info({ 'selected', 'items' })
  local entry = info.selected >= 0 and info.items[info.selected + 1]
  return entry and entry.word or nil
end

local function before_cursor()
  return vim.api.nvim_get_current_line():sub(1, vim.api.nvim_win_get_cursor(0)[2])
end

--- Returns `selectedCompletionInfo` for a position: the selected entry, if it is not in the text yet, and its range.
function M.selected(row, column, line, encoding)
  local word = M.word()
  local before = line:sub(1, column)
  if not word or vim.endswith(before, word) then return nil end
  for length = math.min(#word, #before), 1, -1 do
    if before:sub(-length):lower() == word:sub(1, length):lower() then
      local function position(byte)
        local text = line:sub(1, byte)
        local character = encoding == 'utf-8' and byte
          or encoding == 'utf-16' and vim.fn.strutf16len(text)
          or vim.fn.strchars(text)
        return { line = row, character = character }
      end
      return { text = word, range = { start = position(column - length), ['end'] = position(column) } }
    end
  end
end

--- Returns the key that closes Neovim's menu without changing the text; empty while it is closed.
function M.closing_key()
  if vim.fn.pumvisible() == 0 then return '' end
  local word = M.word()
  return word and vim.endswith(before_cursor(), word) and '<C-y>' or '<C-e>'
end

return M
