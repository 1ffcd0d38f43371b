--- Inserts accepted text so that Neovim can repeat it: by `.`, by a count before `i`, and from a macro. Text that only the
--- API inserts is no part of what Neovim repeats, so the text is also noted in the redo buffer, by `nvim_paste`.
---
--- A recorded macro holds the keys that were typed. The text that a key of this plugin inserted is recorded behind that
--- key, between `<Plug>` keys, which nobody types; when the macro is executed, the key inserts it again.

local api = vim.api
local M = {}

local PLUG = vim.keycode('<Plug>')
local SPECIAL_KEY = 0x80 -- first byte of keys that are no characters

--- Line break without any indentation or comment leader, whatever the options say: a character is typed, so that `<C-u>`
--- has something to delete besides a comment leader, and `0<C-d>` deletes the indentation.
local BARE_LINE_BREAK = '<CR>x<C-u>0<C-d>'

local pending -- the insertion whose keys are in the typeahead
local replayed -- text and tail that were read from a macro

--- Notes text in the redo buffer without inserting it: `vim.paste` is the handler that would.
local function note_for_redo(text)
  if text == '' then return end
  local handler = vim.paste
  vim.paste = function() return true end
  local ok, err = pcall(api.nvim_paste, text, false, -1)
  vim.paste = handler
  if not ok then error(err, 0) end
end

local function put(lines)
  local row, column = unpack(api.nvim_win_get_cursor(0))
  api.nvim_buf_set_text(0, row - 1, column, row - 1, column, lines)
  api.nvim_win_set_cursor(0, { row + #lines - 1, #lines[#lines] + (#lines == 1 and column or 0) })
end

--- Runs a step of the pending insertion: inserts one of its pieces, or ends it.
---@param at integer? index of the piece; nil after the last one
function M.step(at)
  local now = pending
  if not now then return end
  if at then
    local piece = now.pieces[at]
    put(vim.split(piece, '\n', { plain = true }))
    return note_for_redo(piece)
  end
  pending = nil
  -- The keys that broke lines are subject to options; the text is not.
  local last = now.row + #now.wanted
  local there = api.nvim_buf_get_lines(0, now.row, last, false)
  if not vim.deep_equal(there, now.wanted) then
    local grown = api.nvim_buf_line_count(0) - now.count
    api.nvim_buf_set_lines(0, now.row, now.row + 1 + grown, false, now.wanted)
  end
  api.nvim_win_set_cursor(0, { last, now.column })
  if now.done then now.done() end
end

--- Inserts `text` at the cursor in place of `tail`, which stands after it, by keys that are put before the typeahead.
--- `done()` is called after that.
---@param text string
---@param tail string
---@param done fun()?
function M.insert(text, tail, done)
  local row, column = unpack(api.nvim_win_get_cursor(0))
  local line = api.nvim_get_current_line()
  local wanted = vim.split(line:sub(1, column) .. text, '\n', { plain = true })
  pending = {
    -- Before 0.11, repeated line breaks are followed by automatic indentation.
    pieces = vim.fn.has('nvim-0.11') == 1 and { text } or vim.split(text, '\n', { plain = true }),
    row = row - 1,
    column = #wanted[#wanted],
    count = api.nvim_buf_line_count(0),
    wanted = wanted,
    done = done,
  }
  wanted[#wanted] = wanted[#wanted] .. line:sub(column + #tail + 1)
  local keys = { '<C-g>u', ('<Del>'):rep(vim.fn.strchars(tail)) }
  for at in ipairs(pending.pieces) do
    if at > 1 then keys[#keys + 1] = BARE_LINE_BREAK end
    keys[#keys + 1] = ("<Cmd>lua require('codegen.insert').step(%d)<CR>"):format(at)
  end
  keys[#keys + 1] = "<Cmd>lua require('codegen.insert').step()<CR><C-g>u"
  api.nvim_feedkeys(vim.keycode(table.concat(keys)), 'ni', false)
end

--- Returns true while a macro is executed.
function M.executing() return vim.fn.reg_executing() ~= '' end

--- Records what a key did, behind the key itself, if a macro is being recorded: the text that it inserted, and the text
--- after the cursor that was replaced. Both are empty for a key that changed no text.
---@param text string?
---@param tail string?
function M.record(text, tail)
  if vim.fn.reg_recording() == '' or M.executing() then return end
  local keys = table.concat({ '', tail or '', ((text or ''):gsub('\n', '\r')), '' }, PLUG)
  -- Keys are recorded when they are read as typed ones.
  api.nvim_feedkeys(keys, 'nit', true)
  local ends = 0
  while ends < 3 and vim.fn.getchar(1) ~= 0 do
    if vim.fn.getcharstr() == PLUG then ends = ends + 1 end
  end
end

--- In a macro: repeats what the key did when it was recorded. Returns false if that was nothing.
function M.replay()
  if vim.fn.getchar(1) ~= SPECIAL_KEY then return false end
  local key = vim.fn.getcharstr()
  if key ~= PLUG then
    api.nvim_feedkeys(key, 'mi', true) -- the next key of the macro
    return false
  end
  local parts = {}
  for at = 1, 2 do
    local read = {}
    while vim.fn.getchar(1) ~= 0 do
      local character = vim.fn.getcharstr()
      if character == PLUG then break end
      read[#read + 1] = character
    end
    parts[at] = table.concat(read)
  end
  -- Characters of the macro that precede the key may not be in the buffer yet.
  replayed = { tail = parts[1], text = (parts[2]:gsub('\r', '\n')) }
  api.nvim_feedkeys(vim.keycode("<Cmd>lua require('codegen.insert').insert_replayed()<CR>"), 'ni', false)
  return true
end

--- Inserts what `replay` has read.
function M.insert_replayed()
  local text, tail = replayed.text, replayed.tail
  if text == '' and tail == '' then return end
  local after = api.nvim_get_current_line():sub(api.nvim_win_get_cursor(0)[2] + 1)
  M.insert(text, vim.startswith(after, tail) and tail or '')
end

return M
