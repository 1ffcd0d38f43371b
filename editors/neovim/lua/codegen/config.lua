--- The options of `require("codegen").setup{}` and their defaults. `settings` holds the server's own settings; it is
--- passed on unchanged, and checked by the server.

local M = {}

M.defaults = {
  --- Command line of the server, a list; nil looks for it (see server.lua).
  cmd = nil,
  --- Environment variables of the server.
  cmd_env = nil,
  --- Filetypes for which the server is started.
  filetypes = { 'python', 'c', 'cpp', 'go', 'java', 'javascript', 'javascriptreact' },
  --- Files or folders that mark the root of a project.
  root_markers = { '.git', 'pyproject.toml', 'setup.py', 'package.json', 'go.mod' },
  --- Settings of the server, as in docs/settings.md, without `codegen-lsp.` before them.
  settings = {},
  --- Suggest automatically while typing.
  auto = true,
  --- Show suggestions with Neovim's own inline completion (0.12).
  native = false,
  --- Show the progress of loading a model in the message line.
  progress = true,
  --- Milliseconds without a key before a request is sent. The server cancels superseded requests by itself.
  debounce = 20,
  --- Keys of insert mode; false for none. Without a suggestion, each key keeps its previous meaning.
  keys = {
    accept = '<Tab>',
    accept_word = '<C-j>',
    accept_line = '<C-l>',
    dismiss = '<C-]>',
    next = '<M-]>',
    prev = '<M-[>',
    trigger = '<M-\\>',
  },
}

local types = {
  cmd = { 'table', 'nil' },
  cmd_env = { 'table', 'nil' },
  filetypes = { 'table' },
  root_markers = { 'table' },
  settings = { 'table' },
  auto = { 'boolean' },
  native = { 'boolean' },
  progress = { 'boolean' },
  debounce = { 'number' },
  keys = { 'table', 'boolean' },
}

M.current = vim.deepcopy(M.defaults)

--- Reads the options. Returns one sentence for each invalid option, which keeps its default.
---@param options table?
---@return string[]
function M.read(options)
  local wanted, problems = {}, {}
  for name, value in pairs(options or {}) do
    if not types[name] then
      problems[#problems + 1] = ('There is no option `%s`.'):format(name)
    elseif not vim.tbl_contains(types[name], type(value)) then
      problems[#problems + 1] = ('The option `%s` is a %s, not a %s.'):format(name, types[name][1], type(value))
    else
      wanted[name] = value
    end
  end
  if type(wanted.keys) == 'boolean' then
    wanted.keys = wanted.keys and {} or vim.tbl_map(function() return false end, M.defaults.keys)
  end
  for action, key in pairs(wanted.keys or {}) do
    if not M.defaults.keys[action] then
      problems[#problems + 1] = ('There is no key for `%s`.'):format(action)
    elseif type(key) ~= 'string' and key ~= false then
      problems[#problems + 1] = ('The key for `%s` is a string or false.'):format(action)
      wanted.keys[action] = nil
    end
  end
  if wanted.native and vim.fn.has('nvim-0.12') == 0 then
    problems[#problems + 1] = 'The option `native` needs Neovim 0.12; the own ghost text is used.'
    wanted.native = false
  end
  M.current = vim.tbl_deep_extend('force', vim.deepcopy(M.defaults), wanted)
  -- Lists are replaced, not merged: 0.10 merges them by index.
  for _, name in ipairs({ 'filetypes', 'root_markers', 'cmd' }) do
    if wanted[name] then M.current[name] = wanted[name] end
  end
  return problems
end

return M
