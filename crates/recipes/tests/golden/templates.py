"""Chat templates, and what transformers makes of conversations with them: templates.json.

    python templates.py

The templates are written for this test, each for a part of the language that published ones use.
"""

import json
from importlib.metadata import version
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATES = {
    "turns": """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role != 'system' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "instructions": """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}\
{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}\
{% set system_message = false %}{% endif %}{% for message in loop_messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must take turns') }}{% endif %}\
{% if loop.index0 == 0 and system_message != false %}\
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}\
{% else %}{% set content = message['content'] %}{% endif %}\
{% if message['role'] == 'user' %}{{ '[INST] ' + content.strip() + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}
""",
    "blocks": """\
# A heading that stays

  {% for message in messages %}
    {# a comment #}
    {%+ if loop.last %}last: {% endif %}
{{ loop.index }}/{{ loop.length }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.cycle('odd', 'even') }}
\t{% if not loop.last -%}

      next {{ loop.nextitem.role }}
    {%- endif %}
  {% else %}
nobody
  {% endfor %}
{{ loop is defined }} {{ messages | length }}
end
""",
    "thoughts": """\
{%- set ns = namespace(last=-1, seen=[]) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if ns.last < 0 and message.role == 'user' %}{% set ns.last = index %}{% endif %}
    {%- set ns.seen = ns.seen + [message.role] %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- set thought = '' %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if loop.index0 > ns.last and thought %}({{ thought }}) {% endif %}
    {{- message.role | upper ~ ': ' ~ content | trim }}
{% endfor %}
{{- ns.seen | join(',') }} {{ ns.last }} {{ ns.seen }}
""",
    "macros": """\
{%- macro say(who, what='nothing', mark=none) -%}
    <{{ who }}{% if mark is not none %} {{ mark }}{% endif %}>{{ what }}</{{ who }}>
{%- endmacro -%}
{%- for m in messages if m.role != 'system' %}
    {%- if m.content is string and m.content | trim == '' %}{% continue %}{% endif %}
    {{- say(m.role, m.content, mark=loop.index) }}
    {%- if loop.index == 3 %}{% break %}{% endif %}
{%- endfor %}
{{ say('end') }}
""",
    "json": """\
{{ messages | tojson }}
{{ messages[0] | tojson(indent=2) }}
{{ {'b': 1, 'a': [true, false, none, 1.5, -3], "quote'd": "it's"} | tojson(sort_keys=true) }}
{{ [1, 'a', none, True, 2.0, {'k': ['v', "it's"]}, (1,), ()] }} {{ messages[0].content | tojson(ensure_ascii=true) }}
{{ {'a': 1}['a'] }} {{ {'a': 1}.get('b', 'none of it') }} {{ {'a': 1, 'b': 2} | items | list }}
{% for key, value in {'z': 1, 'y': 2}.items() %}{{ key }}={{ value }};{% endfor %}
{% for key, value in {'z': 1, 'B': 2, 'a': 3} | dictsort %}{{ key }}={{ value }};{% endfor %}
""",
    "tests": """\
{%- for value in [none, 1, 1.5, 'a', '', [], [1], {}, {'a': 1}, true, false, nothing] %}
{{ value is defined }} {{ value is none }} {{ value is string }} {{ value is number }} {{ value is mapping }} \
{{- value is iterable }} {{ value is sequence }} {{ value is boolean }} {{ value is integer }} {{ value is false }} \
{{- 'yes' if value else 'no' }} {{ value | default('d') }} {{ value | default('e', true) }} {{ not value }}
{%- endfor %}
{{ tools is none }} {{ documents is defined }} {{ add_generation_prompt is true }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ (1 + 1) ~ 2 }} {{ 'ab' * 2 }} {{ 3 in [1, 2, 3] }}
{{ 1 if false }}|{{ 'a' < 'b' and not 'c' }}|{{ 'x' or 'y' }}|{{ none or 'z' }}|{{ 1 < 2 < 3 }}
""",
    "texts": """\
{%- for m in messages %}
{%- set c = m.content %}
{{ c.strip() }}|{{ c.lstrip() }}|{{ c.rstrip('\\n!') }}|{{ c.upper() }}|{{ c.title() }}|{{ c | capitalize }}|
{{- c.split() }}|{{ c.split('o') | join('/') }}|{{ c.split('o', 1) | join('/') }}|{{ c.startswith(' ') }}|{{ c.endswith('\\n') }}|
{{- c.replace('o', '0') }}|{{ c | replace('l', 'L') }}|{{ c[1:4] }}|{{ c[-2:] }}|{{ c[::-1] }}|{{ c | length }}|
{{- c.find('o') }}|{{ 'o' in c }}|{{ c | first }}|{{ (c | list)[:3] | join('/') }}|{{ c | indent(2) }}|{{ c.splitlines() | join('/') }}
{%- endfor %}
{{ '%s-%d' | format('a', 3) }} {{ '{} {}'.format('a', 'b') }} {{ 'a' ~ 1 ~ none ~ true }} {{ ', '.join(['x', 'y']) }}
""",
    "lists": """\
{{ messages | map(attribute='role') | join(' ') }}
{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | length }}
{{ messages | rejectattr('role', 'equalto', 'user') | list | length }} {{ (messages | last).role }}
{{ [3, 1, 2] | sort }} {{ [3, 1, 2] | sort(reverse=true) | first }} {{ [1, 2] + [3] }} {{ [1, 1, 2] | unique | list }}
{{ range(3) | list }} {{ [3, 1] | max }} {{ [1, 2, 3] | sum }} {{ [1, 2, 3] | reverse | list }} {{ [[1, 2], [3]] | map('length') | list }}
{%- set pair = [1, 2] %}{% set a, b = pair %} {{ a }}{{ b }} {{ range(1, 9, 3) | list }} {{ 5.0 | int }} {{ '7' | int + 1 }} {{ 2.5 | round }}
""",
    "generation": """\
{% for message in messages %}
{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}
{% else %}{{ message.content }}
{% endif %}
{% endfor %}
""",
    "scopes": """\
{% set x = 'outer' %}{% for m in messages %}{% set x = m.role %}{{ x }} {% endfor %}{{ x }}
{% with x = 'inner' %}{{ x }}{% endwith %} {{ x }}
{% set caught %}  {{ x }} caught {% endset %}[{{ caught }}] {% filter upper %}loud {{ x }}{% endfilter %}
{% if messages[0] is defined and messages[0].nothing is not defined %}{{ messages[0].nothing }}none{% endif %}
{% raw %}{{ not code }}{% endraw %} {{ '{{ nor this }}' }}
""",
}
CONVERSATIONS = [
    [("user", "Hello, how are you?")],
    [("system", " Speak plainly. "), ("user", "  hello world!\n"), ("assistant", "<think>\nhm\n</think>\n\nHi!"), ("user", "go on\n")],
    [("user", "\u00fc \u6f22\u5b57 \U0001f44d \"q\" \\ <b>&amp;</b> {{ 7 * 7 }}"), ("assistant", "<think>a</think>o o"), ("user", "x")],
    [("user", "\u00a0\x1c odd \u3000\x85"), ("assistant", " "), ("user", "it's\ttabbed\r\nlines\n\n")],
]

cases = []
for name, template in TEMPLATES.items():
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        for prompt in [True, False]:
            case = {"template": name, "messages": messages, "prompt": prompt}
            try:
                rendered, _ = render_jinja_template(
                    [messages], chat_template=template, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>"
                )
                case["text"] = rendered[0]
            except Exception as error:
                case["error"] = str(error)
            cases.append(case)

versions = {name: version(name) for name in ["transformers", "jinja2"]}
found = {"versions": versions, "templates": TEMPLATES, "cases": cases}
Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
