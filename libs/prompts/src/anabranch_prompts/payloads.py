"""Templates as an attacker writes them: what the sandbox is tried on, by its tests and its benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SECRET: Final = ("class ", "module", "<function", "<built-in", "root:", "object at 0x", "49")
"""Words that what comes out must never hold."""

PAYLOADS: Final[Mapping[str, str]] = {
    # Walks from a value to Python.
    "class of a text": "{{ ''.__class__ }}",
    "mro": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "bases by item": "{{ ''['__class__']['__bases__'] }}",
    "class of a list": "{{ [].__class__.__base__ }}",
    "class of a map": "{{ {}.__class__ }}",
    "class of a number": "{{ (1).__class__ }}",
    "globals of a name": "{{ question.__init__.__globals__ }}",
    "attr filter": "{{ question|attr('__class__') }}",
    "attr filter, name put together": "{{ question|attr(['__cla', 'ss__']|join) }}",
    "name put together": "{{ question['__cla' ~ 'ss__'] }}",
    "name put together by join": "{{ question[['_', '_', 'class', '_', '_']|join] }}",
    "name by replace": "{{ question['~~class~~'|replace('~', '_')] }}",
    "name by reverse": "{{ question['__ssalc__'[::-1]] }}",
    "map to attribute": "{{ items|map(attribute='__class__')|list }}",
    "select by attribute": "{{ items|selectattr('__class__')|list }}",
    "sort by attribute": "{{ items|sort(attribute='__class__') }}",
    "sum of attribute": "{{ items|sum(attribute='__len__') }}",
    "dotted attribute": "{{ items|map(attribute='name.__class__')|list }}",
    # Globals of Jinja and of web frameworks.
    "cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "joiner": "{{ joiner.__init__.__globals__ }}",
    "lipsum": "{{ lipsum.__globals__['os'].system('id') }}",
    "lipsum called": "{{ lipsum(n=10000) }}",
    "namespace": "{% set n = namespace(x=1) %}{{ n.__class__ }}",
    "self": "{{ self._TemplateReference__context }}",
    "dict called": "{{ dict(a=1) }}",
    "request": "{{ request.application.__globals__ }}",
    "config": "{{ config.items() }}",
    "get flashed messages": "{{ get_flashed_messages.__globals__ }}",
    "url for": "{{ url_for.__globals__['current_app'] }}",
    "builtins": "{{ __builtins__.__import__('os') }}",
    "debug": "{% debug %}",
    # Calls.
    "method of a text": "{{ question.upper() }}",
    "format": "{{ '{0.__class__}'.format(question) }}",
    "format_map": "{{ '{x.__class__}'.format_map({'x': question}) }}",
    "format filter": "{{ '%s'|format(question) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent with a map": "{{ '%(x)999999999s' % {'x': 1} }}",
    "encode": "{{ question.encode('utf-16') }}",
    "append": "{{ contexts.append(1) }}",
    "clear": "{{ variables.clear() }}",
    "call block": "{% call question() %}{% endcall %}",
    "do": "{% do contexts.append(1) %}",
    # Loading.
    "import": "{% import 'os' as os %}{{ os }}",
    "from import": "{% from 'os' import system %}",
    "extends": "{% extends '/etc/passwd' %}",
    "include a file": "{% include '/etc/passwd' %}",
    "include upwards": "{% include '../../secrets' %}",
    "include by a value": "{% include question %}",
    "include of a list": "{% include ['a', 'b'] %}",
    "include of itself": "{% include 'self' %}",
    "include of itself twice": "{% include 'self' %}{% include 'self' %}",
    # Recursion.
    "macro that calls itself": "{% macro a() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}",
    "recursive loop": "{% for x in items recursive %}{{ loop(items) }}{% endfor %}",
    "block in itself": "{% block a %}{{ self.a() }}{% endblock %}",
    "brackets": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "nots": "{{ " + "not " * 5000 + "1 }}",
    "minuses": "{{ " + "-" * 20000 + "1 }}",
    "lists in lists": "{{ " + "[" * 2000 + "]" * 2000 + " }}",
    "ifs in ifs": "{% if 1 %}" * 2000 + "{% endif %}" * 2000,
    "filters on filters": "{{ text" + "|upper" * 2500 + " }}",
    "fewer brackets": "{{ " + "(" * 1500 + "1" + ")" * 1500 + " }}",
    "fewer nots": "{{ " + "not " * 1900 + "1 }}",
    "fewer ifs": "{% if 1 %}" * 400 + "{% endif %}" * 380,
    "fewer filters": "{{ text" + "|upper" * 1200 + " }}",
    # Numbers.
    "power": "{{ 9 ** 9 ** 9 }}",
    "power of two": "{{ 2 ** 100000000 }}",
    "product": "{% set a = 9007199254740991 %}{{ a * a * a * a }}",
    "a long number": "{{ " + "9" * 20000 + " }}",
    "a number without end": "{{ 1e999 }}",
    "no number": "{{ 1e308 * 10 - 1e308 * 10 }}",
    "division by nothing": "{{ 1 // 0 }}",
    # Sizes.
    "text times a number": "{{ 'x' * 1000000000 }}",
    "number times text": "{{ 1000000000 * 'x' }}",
    "list times a number": "{{ [0] * 1000000000 }}",
    "range": "{% for i in range(1000000000) %}x{% endfor %}",
    "range backwards": "{% for i in range(1000000000, 0, -1) %}x{% endfor %}",
    "range as a list": "{{ range(100000000)|list|length }}",
    "range without a step": "{{ range(0, 10, 0) }}",
    "loops in loops": "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "loops that put out": "{% for a in range(999) %}{% for b in range(999) %}{{ text }}{% endfor %}{% endfor %}",
    "loops that reckon": "{% for a in range(999) %}{% for b in range(999) %}"
    "{% set x = a * b + 1 %}{% endfor %}{% endfor %}",
    "a loop that filters all away": "{% for a in range(999) %}{% for b in range(999) if b > 5000 %}"
    "x{% endfor %}{% endfor %}",
    "doubling by +": "{% set a = text %}" + "{% set a = a + a %}" * 60 + "{{ a }}",
    "doubling by ~": "{% set a = text %}" + "{% set a = a ~ a %}" * 60 + "{{ a|length }}",
    "doubling by join": "{% set a = text %}" + "{% set a = [a, a]|join %}" * 60 + "{{ a|length }}",
    "doubling by replace": "{% set a = 'x' %}" + "{% set a = a|replace('x', 'xxxx') %}" * 40 + "{{ a|length }}",
    "doubling of lists": "{% set a = [1] %}" + "{% set a = a + a %}" * 60 + "{{ a|length }}",
    "a tree of shared lists": "{% set a = [1] %}" + "{% set a = [a, a] %}" * 40 + "{{ a|tojson }}",
    "a tree compared": "{% set a = [1] %}" + "{% set a = [a, a] %}" * 40 + "{{ a == [a] }}",
    "a tree put out": "{% set a = [1] %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}",
    "a bushy tree": "{% set a = [1] %}" + "{% set a = [a, a] %}" * 21 + "{{ a }}",
    "a deep list": "{% set a = [1] %}" + "{% set a = [a] %}" * 1500 + "{{ a|tojson }}",
    "center": "{{ 'x'|center(1000000000) }}",
    "indent": "{{ 'x\ny'|indent(1000000000) }}",
    "round": "{{ 1|round(1000000000) }}",
    "truncate": "{% for i in range(1000) %}{% for j in range(1000) %}{{ text|truncate(50) }}{% endfor %}{% endfor %}",
    "tojson wide": "{{ items|tojson(indent=100000000) }}",
    "wordwrap": "{{ text|wordwrap(1) }}",
    "batch": "{{ range(10)|batch(1000000000, 0)|list }}",
    "slice filter": "{{ range(10)|slice(1000000000)|list }}",
    "random": "{{ range(1000)|random }}",
    "sorting again and again": "{% for i in range(1000) %}{% set x = range(1000)|sort %}{% endfor %}",
    "searching again and again": "{% set a = text %}"
    + "{% set a = a + a %}" * 13
    + "{% for i in range(1000) %}{% set x = 'zzzz' in a %}{% endfor %}",
    "changing case again and again": "{% set a = text %}"
    + "{% set a = a + a %}" * 13
    + "{% for i in range(1000) %}{% set x = a|upper %}{% endfor %}",
    # Regular expressions, which only tests and schemas have.
    "regex filter": "{{ text|regex_search('(a+)+$') }}",
    "matching test": "{{ text is match('(a+)+$') }}",
    # Spreading, scopes and blocks.
    "arguments spread": "{{ text|replace(*items) }}",
    "names spread": "{{ text|truncate(**variables) }}",
    "set block": "{% set a %}x{% endset %}{{ a }}",
    "filter block": "{% filter upper %}x{% endfilter %}",
    "autoescape": "{% autoescape true %}{{ text }}{% endautoescape %}",
    "trans": "{% trans %}x{% endtrans %}",
    "loop set": "{% set loop = 1 %}{{ loop }}",
    "field of a loop's own": "{% for x in items %}{{ loop.__class__ }}{% endfor %}",
    "loop called": "{% for x in items %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "safe": "{{ text|safe }}",
    # Unicode.
    "fullwidth underscores": "{{ question.\uff3f\uff3fclass\uff3f\uff3f }}",
    "fullwidth letters": "{{ ''.__\uff43lass__ }}",
    "a long s": "{{ question['__cla\u017f\u017f__'] }}",
    "escapes in a text": "{{ question['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "unicode escapes": "{{ question['\\u005f\\u005fclass\\u005f\\u005f'] }}",
    "named escapes": "{{ question['\\N{LOW LINE}_class__'] }}",
    "italic names": "{{ \U0001d450\U0001d466\U0001d450\U0001d459\U0001d452\U0001d45f }}",
    # Not a template at all.
    "open mark": "{{ question",
    "open block": "{% for x in items %}",
    "many open comments": "{#" * 8000,
    "many open marks": "{{" * 8000,
    "many blocks": "{% if %}" * 4000,
    "a long name": "{{ " + "a" * 30000 + " }}",
    "too long": "x" * 40000,
    "too many marks": "{{1}}" * 6000,
}
"""All of them are refused: by `check`, or by Invalid when rendered."""

HARMLESS: Final[Mapping[str, str]] = {
    "arithmetic in a text": "{{ '{{ 7 * 7 }}' }}",
    "raw": "{% raw %}{{ 7 * 7 }}{% endraw %}",
    "dollar": "${7*7}",
    "erb": "<%= 7 * 7 %>",
    "hash": "#{7*7}",
    "a nice loop": "{% for x in items %}{{ loop.index }}{% endfor %}",
    "a field named like a method": "{{ {'items': 1}['items'] }}",
    "deep elif": "{% if 0 %}" + "{% elif 0 %}" * 500 + "{% endif %}",
}
"""These may render; nothing comes out of them but themselves."""
