--- The text of the split of a session: lines with their highlights, and which step and candidate each belongs to.

local M = {}

M.KEYS = {
  { 'a', 'ask for the next step' },
  { 'c', 'change this step; those below are written anew' },
  { 'i', 'insert a step before this one' },
  { 'r', 'write this step again, with other candidates' },
  { '1 - 9', 'take this candidate for the step' },
  { '<CR>', 'take the candidate, or go to the code of the step' },
  { 'e', 'edit the code in the file; it counts as yours' },
  { 'd', 'remove the step' },
  { 'x', 'run the program' },
  { 'u  <C-r>', 'undo, redo' },
  { 's', 'stop what is being written or run' },
  { 'q', 'close the split' },
  { '?', 'show or hide the keys' },
}

--- Summary of the keys above the split.
M.BAR = ' a ask  c change  i insert  r retry  x run  u undo  ? keys'

local SIGNS = {
  right = { '✓', 'CodegenSessionRight' },
  ran = { '•', 'CodegenSessionRan' },
  contradicts = { '✗', 'CodegenSessionWrong' },
  failed = { '✗', 'CodegenSessionWrong' },
  timeout = { '✗', 'CodegenSessionWrong' },
}
local UNKNOWN = { '·', 'CodegenSessionDim' }
local MEANING = { right = 'the examples hold', ran = 'it ran' }
local MOST_ROWS, MOST_LINES = 8, 12

local function sign_of(outcome, code)
  if code == '' then return { '∅', 'CodegenSessionWrong' } end
  return outcome and SIGNS[outcome.kind] or UNKNOWN
end

--- Returns the lines of a table, with aligned columns.
local function table_lines(shown)
  local rows = {}
  if #shown.heads > 0 then rows[1] = shown.heads end
  for at = 1, math.min(#shown.rows, MOST_ROWS) do rows[#rows + 1] = shown.rows[at] end
  local widths = {}
  for _, row in ipairs(rows) do
    for column, cell in ipairs(row) do widths[column] = math.max(widths[column] or 0, vim.fn.strdisplaywidth(cell)) end
  end
  local lines = vim.tbl_map(function(row)
    local cells = {}
    for column, cell in ipairs(row) do cells[column] = cell .. (' '):rep(widths[column] - vim.fn.strdisplaywidth(cell)) end
    return (table.concat(cells, '  '):gsub('%s+$', ''))
  end, rows)
  local left = #shown.rows + shown.dropped - math.min(#shown.rows, MOST_ROWS)
  if left > 0 then lines[#lines + 1] = ('… %d more rows'):format(left) end
  return lines
end

--- Returns the first line of a text, with the number of the others.
local function first_line(text)
  local lines = vim.split(text, '\n', { plain = true })
  return #lines > 1 and ('%s  (+%d)'):format(lines[1], #lines - 1) or lines[1]
end

--- Collects lines. A part is a text, or a text and its highlight group.
local Page = {}
Page.__index = Page

function Page:add(about, ...)
  local text, marks = '', {}
  for _, part in ipairs({ ... }) do
    local piece, group = part, nil
    if type(part) == 'table' then
      piece, group = part[1], part[2]
    end
    if group then marks[#marks + 1] = { #text, #text + #piece, group } end
    text = text .. piece
  end
  self.lines[#self.lines + 1] = { text = text, marks = marks, turn = about.turn, candidate = about.candidate }
end

--- Adds each line of a text below a step.
function Page:add_below(about, text, group)
  local lines = vim.split(text, '\n', { plain = true })
  for at = 1, math.min(#lines, MOST_LINES) do self:add(about, '   ', { lines[at], group }) end
  if #lines > MOST_LINES then self:add(about, '   ', { ('… %d more lines'):format(#lines - MOST_LINES), 'CodegenSessionDim' }) end
end

local function add_result(page, about, turn, outcome, files)
  local output = turn.output
  if outcome and #outcome.tables > 0 then
    if outcome.output ~= '' then page:add_below(about, (outcome.output:gsub('\n$', '')), 'CodegenSessionOutput') end
    for _, shown in ipairs(outcome.tables) do
      page:add_below(about, table.concat(table_lines(shown), '\n'), 'CodegenSessionOutput')
    end
  elseif output ~= '' then
    local failed = outcome and not MEANING[outcome.kind] and outcome.kind ~= 'contradicts'
    page:add_below(about, output, failed and 'CodegenSessionWrong' or 'CodegenSessionOutput')
  end
  if outcome and outcome.reason ~= '' and not output:find(outcome.reason, 1, true) then
    page:add_below(about, outcome.reason, 'CodegenSessionWrong')
  end
  if outcome and outcome.explanation ~= '' and not output:find(outcome.explanation, 1, true) then
    page:add_below(about, outcome.explanation, 'CodegenSessionDim')
  end
  for _, path in ipairs(files or {}) do page:add_below(about, path, 'CodegenSessionFile') end
end

local function add_candidates(page, number, written)
  if #written.proposals < 2 then return end
  for at, proposal in ipairs(written.proposals) do
    local sign, chosen = sign_of(proposal, proposal.code), at == written.chosen
    local said = proposal.kind == 'right' and proposal.output or proposal.reason ~= '' and proposal.reason or proposal.output
    local parts = {
      { chosen and ' ▸ ' or '   ', 'CodegenSessionChosen' },
      { ('%d'):format(at), chosen and 'CodegenSessionChosen' or 'CodegenSessionDim' },
      { sign[1] .. ' ', sign[2] },
      { first_line(proposal.code), chosen and 'CodegenSessionChosen' or 'Normal' },
    }
    if said ~= '' then parts[#parts + 1] = { '   ' .. first_line(said), 'CodegenSessionDim' } end
    page:add({ turn = number, candidate = at }, unpack(parts))
  end
end

--- Returns the lines of the split.
---@param session table name, model, turns, outcomes, files, written, pending, notice, keys
function M.page(session)
  local page = setmetatable({ lines = {} }, Page)
  page:add({}, { ' ' .. session.name, 'CodegenSessionTitle' }, { session.model and '  ' .. session.model or '', 'CodegenSessionDim' })
  if session.notice then
    for _, line in ipairs(vim.split(session.notice.text, '\n', { plain = true })) do page:add({}, { ' ' .. line, session.notice.group }) end
  end
  page:add({}, '')
  for number, turn in ipairs(session.turns) do
    local outcome, pending = session.outcomes[number], session.pending
    local sign, about = sign_of(outcome, turn.code), { turn = number }
    for at, line in ipairs(vim.split(turn.request, '\n', { plain = true })) do
      local mine = at == 1 and turn.edited and { '  yours', 'CodegenSessionYours' } or ''
      local head = at == 1 and { sign[1], sign[2] } or ' '
      page:add(about, head, { (at == 1 and ' %d ' or '   '):format(number), 'CodegenSessionDim' }, { line, 'CodegenSessionRequest' }, mine)
    end
    add_result(page, about, turn, outcome, session.files[number])
    if session.written and session.written.turn == number then add_candidates(page, number, session.written) end
    if pending and pending.turn == number then page:add(about, { '   ' .. pending.text, 'CodegenSessionPending' }) end
    page:add(about, '')
  end
  local pending = session.pending
  if pending and pending.turn and pending.turn > #session.turns then
    page:add({}, { ('· %d '):format(pending.turn), 'CodegenSessionDim' }, { first_line(pending.request), 'CodegenSessionRequest' })
    page:add({}, { '   ' .. pending.text, 'CodegenSessionPending' })
    page:add({}, '')
  elseif pending and not pending.turn then
    page:add({}, { ' ' .. pending.text, 'CodegenSessionPending' })
  elseif #session.turns == 0 then
    page:add({}, { ' Press a, and say what the program should do first.', 'CodegenSessionDim' })
    page:add({}, { ' An example decides what is right: `x = [1, 2]` → `3`, or f(2) → 4.', 'CodegenSessionDim' })
    page:add({}, '')
  end
  if session.keys then
    for _, key in ipairs(M.KEYS) do page:add({}, { (' %-9s'):format(key[1]), 'CodegenSessionKey' }, key[2]) end
  end
  return page.lines
end

--- Defines the highlight groups, where the user has not.
function M.define_highlights()
  local links = {
    Title = 'Title',
    Request = 'Bold',
    Output = 'String',
    Right = 'DiagnosticOk',
    Ran = 'DiagnosticInfo',
    Wrong = 'DiagnosticError',
    Yours = 'Special',
    Chosen = 'Bold',
    Dim = 'Comment',
    Pending = 'DiagnosticWarn',
    File = 'Underlined',
    Key = 'Special',
  }
  vim.api.nvim_set_hl(0, 'Bold', { bold = true, default = true })
  for name, target in pairs(links) do vim.api.nvim_set_hl(0, 'CodegenSession' .. name, { link = target, default = true }) end
end

return M
