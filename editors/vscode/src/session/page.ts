/** The page of a session's panel: a frame for `webview/session.ts`, which may load nothing else. */

import { randomBytes } from 'node:crypto';

import * as vscode from 'vscode';

/** Returns the page. It has no network: its policy admits its own script and style, and pictures in its messages. */
export function page(webview: vscode.Webview, extension: vscode.Uri): string {
  const nonce = randomBytes(16).toString('base64');
  const file = (...path: string[]) => webview.asWebviewUri(vscode.Uri.joinPath(extension, ...path)).toString();
  const policy = [
    `default-src 'none'`,
    `script-src 'nonce-${nonce}'`,
    `style-src ${webview.cspSource}`,
    'img-src data:',
    `base-uri 'none'`,
    `form-action 'none'`,
  ].join('; ');
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="${file('media', 'session.css')}">
<title>Codegen session</title>
</head>
<body>
<script nonce="${nonce}" src="${file('dist', 'session.js')}"></script>
</body>
</html>`;
}
