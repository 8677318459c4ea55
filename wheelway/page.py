"""The documentation page of a release, for people: self-contained HTML, every value escaped.

First an example that can be sent from the page, then the fields of request and result, at last the
JSON Schemas. It loads nothing and asks only the release itself, so it also works where there is no
network.
"""

from __future__ import annotations

import html
import json
import shlex
from string import Template
from typing import TYPE_CHECKING, Any, Final

from wheelway import json_schema
from wheelway.fields import fields_of
from wheelway.openapi import PROBLEMS, STREAMS
from wheelway.schema import BYTES_TYPE, JSON_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wheelway.contract import Release
    from wheelway.schema import Interface

POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)
"""Content-Security-Policy of the page."""

ORIGIN: Final = "http://HOST"
"""In the command to copy; the page's script puts its own in."""
_HEADS: Final = ("Field", "Type", "Needed", "About")
_LONGEST = 400
"""Characters of a body within a command."""


def render(release: Release, interface: Interface, examples: Sequence[Any], route: str) -> str:
    """The page of a release at a route."""
    request, result = interface.schemas
    is_json = interface.request_type == JSON_TYPE
    shown = interface.shown(examples)
    bodies = [_pretty(example) if is_json else example for example in shown]
    texts = {
        "name": release.pipeline,
        "version": release.version,
        "digest": release.digest,
        "description": interface.description,
        "route": route or "/",
        "base": route,
        "request_type": interface.request_type,
        "result_type": ", ".join(interface.result_types),
        "request": _pretty(request),
        "result": _pretty(result),
        "sample": bodies[0] if bodies else "",
        "rows": str(min(max(bodies[0].count("\n") + 1, 3), 16) if bodies else 3),
        "curl": _curl(interface, shown, route or "/"),
        "label": "Request" if is_json else "or as text",
    }
    parts = {
        "choice": _choice(bodies),
        "file": "" if is_json else _FILE,
        "request_fields": _fields(request, needs=True),
        "result_fields": _stream(interface) + _fields(result, needs=False),
        "problems": _problems(interface),
    }
    return _PAGE.substitute({key: html.escape(text) for key, text in texts.items()} | parts)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _curl(interface: Interface, examples: Sequence[Any], route: str) -> str:
    """The first example as a command to copy."""
    silent = "-sSN" if interface.said.streams else "-sS"
    command = f"curl {silent} {ORIGIN}{route} -H 'content-type: {interface.request_type}'"
    if interface.request_type != JSON_TYPE:
        body, option = (examples or [""])[0], "--data-binary"
    else:
        body, option = json.dumps(examples[0], ensure_ascii=False) if examples else "", "-d"
    if not 0 < len(body) <= _LONGEST:
        body = "@FILE"
    elif body.startswith("@"):  # which names a file to the other options
        option = "--data-raw"
    kept = " -o RESULT" if interface.result_type == BYTES_TYPE else ""
    return f"{command} {option} {shlex.quote(body)}{kept}"


def _choice(bodies: Sequence[str]) -> str:
    """A menu of the examples, when there are several."""
    if len(bodies) < 2:
        return ""
    options = "".join(
        f'<option value="{html.escape(body)}">Example {number}</option>'
        for number, body in enumerate(bodies, start=1)
    )
    return f'<select aria-label="example">{options}</select>'


def _fields(schema: dict[str, Any], *, needs: bool) -> str:
    """The fields of a value as a table without empty columns; `needs`: what must be sent too."""
    if schema == json_schema.BINARY:
        return "<p>Bytes, as they are.</p>"
    rows = [
        (
            f"<code>{html.escape(field.name)}</code>",
            html.escape(field.type),
            html.escape(field.need) if needs else "",
            html.escape("\n".join(part for part in (field.about, field.limits) if part)),
        )
        for field in fields_of(schema)
    ]
    columns = [column for column in zip(_HEADS, *rows, strict=True) if any(column[1:])]
    heads, *rows = zip(*columns, strict=True)
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead>{_rows(rows)}</table>"


def _stream(interface: Interface) -> str:
    """How a stream comes, before the fields of its items."""
    if not interface.said.streams:
        return ""
    ways = "".join(f"<li>{html.escape(STREAMS[kind])}" for kind in interface.result_types)
    return f"<p>A stream of items:</p><ul>{ways.replace('`', '')}</ul>"


def _problems(interface: Interface) -> str:
    """The host's answers, and below each those of the pipeline by the same status."""
    texts = {status: [html.escape(text)] for status, text in PROBLEMS.items()}
    for refused in interface.refusals:
        text = f"<code>{refused.reason}</code>: {html.escape(refused.message)}"
        texts.setdefault(refused.status, []).append(text)
    return _rows((f"<b>{status}</b>", "\n".join(texts[status])) for status in sorted(texts))


def _rows(rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)


_FILE: Final = '<p><label>A file <input type="file"></label></p>'

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name $version</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; --line: #8884 }
body { max-width: 56rem; margin: 2.5rem auto 4rem; padding: 0 1.2rem }
h1 { margin: 0; line-height: 1.2 } h2 { margin: 2.2rem 0 .6rem; font-size: 1.2rem }
h1 small, h2 small { font-weight: normal }
small { opacity: .7; word-break: break-all }
.text { white-space: pre-line }
code, pre, textarea { font: 13px/1.5 ui-monospace, monospace }
pre, textarea { width: 100%; box-sizing: border-box; margin: .4rem 0; padding: .7rem .8rem;
  border: 1px solid var(--line); border-radius: .4rem; overflow: auto; background: #8881 }
textarea { resize: vertical }
pre.line { white-space: pre-wrap; word-break: break-all }
button, select { font: inherit; padding: .25rem .9rem; border-radius: .4rem;
  border: 1px solid var(--line); cursor: pointer }
button[type=submit] { background: #2563eb; border-color: #2563eb; color: #fff }
form p { display: flex; gap: .8rem; align-items: center; margin: .4rem 0 }
table { width: 100%; border-collapse: collapse; font-size: .92rem }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;
  border-bottom: 1px solid var(--line) }
th { font-weight: 600; opacity: .7 } td:last-child { white-space: pre-line }
td code { word-break: break-word }
summary { cursor: pointer; margin: .5rem 0 }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .6rem }
</style>
<h1>$name <small>$version</small></h1>
<p class="text">$description</p>
<h2>Try it <small>POST $route</small></h2>
<form>$choice$file
<label><small>$label</small>
<textarea rows="$rows" spellcheck="false">$sample</textarea></label>
<p><button type="submit">Send</button> <button type="button" hidden>Stop</button>
<span role="status"></span> <a download="result" hidden>Save
the result</a></p></form>
<pre id="answer" hidden></pre>
<details open><summary>On a command line</summary>
<pre class="line" id="curl">$curl</pre></details>
<h2>Request <small>$request_type</small></h2>
$request_fields
<h2>Result <small>$result_type</small></h2>
$result_fields
<details><summary>Errors</summary>
<p>They are <code>application/problem+json</code>; <code>reason</code> is the word to branch on.</p>
<table>$problems</table></details>
<h2>JSON Schema</h2>
<details><summary>Request</summary><pre>$request</pre></details>
<details><summary>Result</summary><pre>$result</pre></details>
<footer><small><a href="$base/openapi.json">OpenAPI document</a> &middot; <a href="$base/">what runs
here</a> &middot; sha256 $digest</small></footer>
<script>
const at = (selector) => document.querySelector(selector);
const answer = at("#answer"), status = at("[role=status]"), link = at("a[download]");
const text = at("textarea"), file = at("[type=file]"), choice = at("select");
at("#curl").textContent = at("#curl").textContent.replace("http://HOST", location.origin);
if (choice) choice.addEventListener("change", () => { text.value = choice.value; });
const show = (words) => { answer.textContent = words; answer.hidden = false; };
const send = at("[type=submit]"), stop = at("[type=button]"), most = 200000;
const follow = async (response, told) => {
  const reader = response.body.getReader(), decoder = new TextDecoder();
  let items = 0, words = "";
  for (;;) {
    const { done, value } = await reader.read();
    words += decoder.decode(value, { stream: !done });
    items += value ? value.filter((byte) => byte === 10).length : 0;
    show(words = words.slice(-most));
    told(items + (items === 1 ? " item" : " items"));
    if (done) return;
  }
};
const shown = (blob, words, type) => {
  if (type.includes("json")) {
    try { return JSON.stringify(JSON.parse(words), null, 2) } catch { return words }
  }
  return /[\\0\\ufffd]/.test(words) ? blob.size + " bytes" : words;
};
at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  status.textContent = "asking ..."; answer.hidden = link.hidden = true;
  const start = performance.now(), leaving = new AbortController();
  const told = (...words) => {
    status.textContent = [...words, Math.round(performance.now() - start) + " ms"].join(", ");
  };
  stop.onclick = () => leaving.abort(); stop.hidden = false; send.disabled = true;
  try {
    const response = await fetch(location.pathname.replace(/[/]docs[/]?$$/, "") || "/", {
      method: "POST", signal: leaving.signal, headers: { "content-type": "$request_type" },
      body: (file && file.files[0]) || text.value });
    const type = response.headers.get("content-type") || "";
    if (type.includes("ndjson")) {
      await follow(response, (items) => told(response.status, items));
      return;
    }
    const blob = await response.blob();
    told(response.status);
    show(shown(blob, await blob.text(), type));
    if (!type.includes("json")) { link.href = URL.createObjectURL(blob); link.hidden = false; }
  } catch (error) {
    if (!leaving.signal.aborted) status.textContent = "no whole answer: " + error.message;
  } finally { stop.hidden = true; send.disabled = false; }
});
</script>
</html>
""")
