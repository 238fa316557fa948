"""Writes cases.json and templates.json: what real jinja2, set up as transformers does for chat templates, makes of
small templates and of the templates beside this file.

Run with `pip install transformers jinja2` (made with transformers 5.18.0, jinja2 3.1.6):
    python3 generate.py
"""

import copy
import datetime
import json
import pathlib

from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2026, 11, 3, 9, 5, 7)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = Clock

VARIABLES = {
    "s": "Hello World",
    "e": "",
    "u": "naïve 你好 👍🏽 e\u0301",
    "multi": "one\ntwo\r\n\n  three  \n",
    "n": 7,
    "neg": -7,
    "f": 2.5,
    "t": True,
    "no": None,
    "l": [3, 1, 2],
    "words": ["b", "A", "c", "a"],
    "d": {"b": 1, "a": "x", "items": [1, 2], "nested": {"k": [1, {"z": None}]}},
    "empty": {},
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi <there> & \"you\"\n'q'"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"x": 1.5}}}]},
        {"role": "tool", "content": "42", "tool_call_id": "1"},
    ],
}

EXPRESSIONS = r"""
s
e
u
n
f
t
no
l
words
d
empty
messages[2]
missing
missing.x
missing['x']
missing + 1
missing ~ 'x'
missing == other_missing
missing == none
missing is defined
missing is not defined
missing | default('x')
missing or 'y'
missing and 'y'
not missing
missing | length
missing | list
missing | upper
missing | tojson
missing in l
l in missing
missing in s
missing in d
missing not in d
d.get(missing)
d.get(missing, 1)
d[missing]
missing in d.keys()
l in d
missing < 1
missing()
s.nothing
s.nothing.more
no.x
no['x']
no[0]
no[1:]
n.x
n[0]
d.a
d['a']
d.items
d['items']
d.items()
d.keys()
d.values()
d.get('a')
d.get('zz')
d.get('zz', 5)
d.missing
d['missing']
d.nested.k[1].z
d.update
d.update({'x': 1})
d.pop('a')
l.append(4)
l.pop()
l.sort()
l.__class__
s.__class__
s.__class__.__mro__
d.__init__
''.__class__.__mro__[1].__subclasses__()
l.index(2)
l.index(9)
l.count(1)
l[0]
l[-1]
l[3]
l[-4]
l['0']
l[true]
l[1:]
l[:-1]
l[::-1]
l[::2]
l[5:]
l[-100:100]
l[2:0:-1]
l[::0]
l['a':]
(1, 2, 3)[1]
(1, 2, 3)[::-1]
(1,)
()
(1)
s[0]
s[-1]
s[100]
s[1:4]
s[::-1]
u[6]
u[6:8]
u[-3:]
u[::-1]
u | length
u.upper()
d[1:]
range(3)
range(3) | list
range(5, 0, -2) | list
range(1, 4)[1]
range(0)
range(100001)
range(99999) | length
range(10**6) | length
range(1, 2, 0)
1 + 2
1 - 2
2 * 3
7 / 2
8 / 2
7 // 2
-7 // 2
7 // -2
7 % 3
-7 % 3
7 % -3
7.5 // 2
-7.5 // 2
-7.5 % 2
7.5 % -2
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
(-2) ** 2
0 ** 0
1 / 0
1 // 0
1 % 0
1.0 / 0
1 + true
true + true
-true
+n
-n
- - n
-f
-s
n + f
n + s
s + n
s + no
s + s
l + l
l + (1,)
(1,) + (2,)
l + 'a'
s * 2
2 * s
s * 0
s * -1
s * 1.5
l * 2
(1,) * 2
s - s
'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1]
1 ~ 2 + 3
1 + 2 ~ 3
'%s and %d' % ('x', 3)
'%s' % 'x'
'%s' % l
'%5s|%-5s|%05d|%+d|%.2f|%5.1f|%x|%%' % ('a', 'b', 42, 3, 2.675, 1.25, 255)
'%(a)s' % d
'%s %s' % 'x'
'%s' % ('x', 'y')
'%d' % 'x'
'%d' % 2.9
'%i' % -3
'%r' % s
'{} {}'.format(1, 'x')
'{1} {0}'.format(1, 'x')
'{a} {{}}'.format(a=1)
'{}'.format()
1 == 1.0
1 == true
0 == false
'1' == 1
none == false
[1, 2] == [1, 2]
[1, 2] == (1, 2)
{'a': 1} == {'a': 1.0}
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
1 != 2
1 < 2
1 < 2 < 3
1 < 3 < 2
3 > 2 >= 2
1 < 'a'
'a' < 'b'
'B' < 'a'
'a' < 'ab'
[1, 2] < [1, 3]
(1, 2) < (1, 3)
[1] < (2,)
none < 1
true < 2
1 == 1 == true
1 in [1, 2]
1 in (1, 2)
1.0 in l
'a' in d
'z' in d
'z' not in d
'lo' in s
1 in s
1 in n
'' in s
'a' in 'abc' in ['abc']
not 'a' in 'abc'
not true
not 1 == 2
true and 0
0 and 1
'' or 'x'
1 or 2
none or false
true and false or true
not true or true
1 if true else 2
1 if false else 2
1 if false
(1 if false) is defined
1 if false else 2 if false else 3
(1 if true) + 1
'a' if n > 3 and n < 10 else 'b'
[1, 'a', none, true, 1.5, [2], {'k': 'v'}, (1,)]
{'a': 1, 'b': [1, 2], 'c': none}
{'a': 1,}
[1, 2,]
{1: 'x', none: 'y'}
{[1]: 2}
{}
[]
"it's"
'say "x"'
'it\'s "x"'
['it\'s', 'say "x"', 'it\'s "x"']
['\n\t\r\\', '\x00\x1f\x7f\x80\xa0', 'é你👍', '\u200b\u2028']
'\x41\u0042\101\q\\'
'a' 'b' "c"
'a\
b'
1.0
1.5e3
1e3
1e16
1e15
123456789012345678.0
1e-4
1e-5
0.1 + 0.2
1/3
1e400
-1e400
100.0
1_000
12345678901234
9223372036854775807
1.0 | string
f | int
'3.7' | int
' 12 ' | int
'x' | int
'x' | int(5)
'ff' | int(0, 16)
'-5' | int
no | int
true | int
'3.7' | float
'x' | float
'x' | float(1.5)
'1e3' | float
'inf' | float
'nan' | float
n | float
s | upper
s | lower
s | title
s | capitalize
'hello wORLD-foo (bar) it\'s' | title
'hello wORLD-foo it\'s ǆ ß' | capitalize
'ß' | upper
'hello wORLD-foo it\'s'.title()
'ﬁne ǆ'.title()
'ﬁne'.capitalize()
'İ'.lower()
'ΑΣ'.lower()
'aBc'.swapcase()
'Straße'.casefold()
s | trim
'  x  ' | trim
'xxaxx' | trim('x')
'\u00a0\u3000x\u2003' | trim
no | trim
n | trim
'  x  '.strip()
'  x  '.lstrip()
'  x  '.rstrip()
'xyaxy'.strip('xy')
'xyaxy'.lstrip('xy')
'xyaxy'.rstrip('xy')
'xya'.strip(none)
s.split()
s.split('o')
s.split('o', 1)
s.rsplit('o', 1)
s.split('zz')
s.split('')
'a,b,,c'.split(',')
'a,b,,c'.split(',', maxsplit=2)
'  a  b  c '.split()
'  a  b  c '.split(none, 1)
'  a  b  c '.rsplit(none, 1)
''.split()
''.split(',')
'<think>a</think>b'.split('</think>')[-1]
'<think>a</think>b'.split('</think>')[0].split('<think>')[-1]
multi.splitlines()
multi.splitlines(true)
multi | length
s.partition(' ')
s.partition('zz')
s.rpartition('o')
s.rpartition('zz')
s.startswith('Hell')
s.startswith(('x', 'H'))
s.startswith('World', 6)
s.endswith('ld')
s.endswith(('x', 'ld'))
s.startswith(1)
s.find('o')
s.find('o', 5)
s.find('zz')
s.rfind('o')
s.index('W')
s.index('zz')
u.find('好')
s.count('l')
s.count('')
'aaaa'.count('aa')
s.replace('o', '0')
s.replace('o', '0', 1)
s.replace('', '-')
s.replace('', '-', 3)
s.replace('zz', '')
s | replace('o', '0')
s | replace('l', 'L', 2)
n | replace(7, 8)
s.removeprefix('Hello ')
s.removesuffix('World')
'-'.join(words)
'-'.join(l)
', '.join(d)
s.center(15)
s.center(16, '*')
'ab'.center(5)
'abc'.center(6)
'5'.zfill(3)
'-5'.zfill(4)
'5'.ljust(3) ~ '|'
'5'.rjust(3)
s.isalpha()
'abc'.isalpha()
'12'.isdigit()
'²'.isdigit()
'²'.isdecimal()
''.isdigit()
'a1'.isalnum()
' \n'.isspace()
'ab'.islower()
'AB'.isupper()
'1'.isupper()
s.format
s.upper
words | join(', ')
words | join
l | join('-')
[1, none, 'x', true] | join('|')
messages | join(', ', attribute='role')
messages | map(attribute='role') | join(',')
messages | map(attribute='role') | list
messages | map(attribute='nope') | list
messages | map(attribute='nope', default='-') | list
messages | map(attribute='tool_calls.0.function.name', default='-') | list
messages | map(attribute='content')
words | map('upper') | list
words | map('replace', 'a', 'z') | list
words | map('nosuch') | list
words | map | list
messages | selectattr('role', 'equalto', 'user') | list | length
messages | selectattr('role', 'in', ['user', 'tool']) | map(attribute='content') | list
messages | rejectattr('role', '==', 'user') | map(attribute='role') | list
messages | selectattr('tool_calls') | list | length
messages | selectattr('tool_calls', 'defined') | list | length
messages | selectattr('tool_calls', 'undefined') | map(attribute='role') | list
messages | selectattr('content', 'none') | list | length
messages | selectattr('role', 'equalto', 'user') | length
messages | selectattr('role', 'equalto', 'user') | first
(messages | selectattr('role', 'equalto', 'user') | first).content
messages | selectattr('role', 'equalto', 'user') | last
messages | selectattr('role', 'nosuch') | list
l | select('odd') | list
l | reject('odd') | list
l | select('>', 1) | list
l | select | list
[0, 1, '', 'a'] | select | list
l | sort
l | sort(reverse=true)
words | sort
words | sort(case_sensitive=true)
words | sort(true)
[1, 'a'] | sort
messages | sort(attribute='role') | map(attribute='role') | list
d | dictsort
{'B': 1, 'a': 2, 'C': 0} | dictsort
{'B': 1, 'a': 2, 'C': 0} | dictsort(true)
{'B': 1, 'a': 2, 'C': 0} | dictsort(by='value')
{'B': 1, 'a': 2, 'C': 0} | dictsort(false, 'value', true)
d | items | list
d | items
missing | items | list
l | items
d | list
d | length
d | first
s | list
s | first
s | last
l | first
l | last
[] | first
[] | first is defined
[] | last
d | last
l | max
l | min
words | max
words | min
words | max(case_sensitive=true)
[] | max
messages | max(attribute='role')
l | sum
[0.1, 0.2] | sum
messages[2:3] | sum(attribute='x')
[{'x': 1}, {'x': 2}] | sum(attribute='x', start=10)
words | sum
l | reverse | list
l | reverse
s | reverse
words | unique | list
[1, 1.0, true, 2] | unique | list
l | batch(2) | list
l | batch(2, 'x') | list
-5 | abs
(-5) | abs
-2.5 | abs
s | abs
2.5 | round
3.5 | round
2.567 | round(2)
2.5 | round(0, 'ceil')
2.5 | round(method='floor')
25 | round(-1)
7 | round
2.675 | round(2)
s | round
s | length
l | count
n | length
no | length
s | string
l | string
s | wordcount
'a_b 你好 c-d' | wordcount
s | center(20)
s | default('x')
e | default('x')
e | default('x', true)
no | default('x')
no | default('x', true)
no | d('x', boolean=true)
s | attr('upper')
d | attr('a')
d | attr('keys')
multi | indent
multi | indent(2, true)
multi | indent(2, first=true, blank=true)
multi | indent('> ')
'a\n\nb' | indent(2)
'' | indent
l | indent
'%s-%s' | format(1, 2)
'%(x)s' | format(x=1)
d | tojson
messages | tojson
u | tojson
d | tojson(indent=2)
{'a': [], 'b': {}, 'c': [1, [2]]} | tojson(indent=4)
d | tojson(ensure_ascii=true)
u | tojson(ensure_ascii=true)
{'b': 1, 'a': 2} | tojson(sort_keys=true)
d | tojson(separators=(',', ':'))
d | tojson(indent=2, separators=(',', ': '))
[1, 1.0, 1e20, none, true, 'a/b<>&\'"\\\n\t\x01\x7f'] | tojson
{1: 2, none: 3, true: 4, 1.5: 5} | tojson
(1, 2) | tojson
(l | map('string')) | tojson
range(3) | tojson
[missing] | tojson
1e400 | tojson
d | tojson(indent='\t')
d | tojson(0)
l | tojson(indent=0)
s | safe
(s | safe) ~ 'x'
messages[1] | tojson | safe
l | nosuch
l is nosuch
n is odd
n is even
neg is odd
n is divisibleby 7
n is divisibleby(2)
s is string
n is string
d is mapping
l is mapping
l is sequence
s is sequence
d is sequence
d.items() is sequence
missing is sequence
range(3) is sequence
n is sequence
l is iterable
s is iterable
d is iterable
n is iterable
no is iterable
missing is iterable
(l | map('string')) is iterable
n is number
f is number
t is number
s is number
n is integer
t is integer
f is integer
f is float
t is boolean
n is boolean
t is true
n is true
1 is true
0 is false
no is none
missing is none
no is not none
n is eq 7
n is equalto 7
n is ne 8
n is gt 5
n is ge 7
n is lt 5
n is le(7)
n is in [7]
n is not in [7]
s is lower
s is upper
'abc' is lower
t is sameas true
no is sameas none
n is sameas true
range is callable
s.upper is callable
s is callable
missing is callable
'upper' is filter
'nosuch' is filter
'odd' is test
n is odd and n is number
n is not odd or n is number
not n is odd
n is odd == true
'a' is string ~ 'x'
n is defined and s is defined
namespace(a=1)
namespace(a=1).a
namespace(a=1).b
namespace({'x': 2}, y=3).x
namespace(a=1)['a']
dict(a=1)
dict({'z': 1}, a=2)
raise_exception('no ' ~ 'way')
raise_exception()
strftime_now('%Y-%m-%d %H:%M:%S')
strftime_now('%d %B %Y, %A %b %a %j %y %I %p %% %-d %-m %e %f')
s.upper()
s.upper(1)
l(1)
n()
messages[-1]['content']
messages[0].role
messages[1:][0].content
messages | length - 1
(messages | length) - 1
messages|length > 3
messages[messages|length - 1].role
d.nested['k'][1]['z'] is none
s|upper|lower|title
-n|abs
(l|length) * 2
l|length * 2
n * -1
n ** 2 // 5 % 4
'a' < 'b' and 'b' < 'c'
{'a': 1}.a
{'a': 1}['a']
[1, 2][0]
'abc'[1]
'abc'.upper()[0]
('a', 'b')|join
"a{{b}}"
'{%'
n .x
n == 7 == true
1 in [1] == true
[[1, 2], [3]] | map('length') | list
[[1, 2], [3]] | map('first') | list
[{'a': 1}] | map(attribute='a') | sum
[3, 1] | sort | first
d.nested | tojson | length
loop
loop.index
n if n
x.y.z
l.x.y
l[9].y
l[9]
d['x']['y']
'x' + d.get('zz')
'x' + (d.get('zz') or 'y')
u.split()
u.title()
u.isalpha()
u is string
u ~ u[0]
u[2] == 'ï'
'👍' | length
'👍🏽'[0]
'👍🏽'[::-1]
['👍🏽', '\ud7ff']
'a' * 3 ~ 'b'
[1] * 3
[none] * 2
'x'.join(['a'])
'x'.join('abc')
'%s' % none
'%s' % true
'%s' % missing
'' % ()
1.5 | int
1e30 | round
'1_000' | int
"1,2"|list
1 is defined
'abc' | first | upper
cycler(1)
kwargs
s == "Hello" " World"
1.0 == 1
1.5 is divisibleby 0.5
0.5 + 1
1 - 0.9
3.0 * 2
10 % 3.5
2.0 ** 0.5
2 ** 0.5
1e22
1.7976931348623157e308
5e-324
123456.789
0.00001234
"""

STATEMENTS = [
    "{% if n > 3 %}a{% elif n %}b{% else %}c{% endif %}",
    "{% if 0 %}a{% elif e %}b{% else %}c{% endif %}",
    "{% for x in l %}{{ x }},{% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}",
    "{% for x in missing %}a{% else %}none{% endfor %}",
    "{% for x in no %}a{% endfor %}",
    "{% for x in n %}a{% endfor %}",
    "{% for c in u %}{{ c }}|{% endfor %}",
    "{% for k in d %}{{ k }} {% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }} {% endfor %}",
    "{% for k, v in d | items %}{{ k }}={{ v }} {% endfor %}",
    "{% for k, v in d | dictsort %}{{ k }}={{ v }} {% endfor %}",
    "{% for k, v in l %}{{ k }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{% for x in l if x > 5 %}{{ x }}{% else %}empty{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.length }}{{ loop.revindex }}{{ loop.last }}{% endfor %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem }}-{{ loop.nextitem }} {% endfor %}",
    "{% for x in l %}{% if loop.previtem is defined %}{{ loop.previtem }}{% endif %}{{ loop.nextitem is defined }}{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in l %}{{ loop.nope }}{% endfor %}",
    "{% for x in l | map('string') %}{{ loop.length }}{{ loop.last }}{% endfor %}",
    "{% for x in l %}{% for y in l %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% for x in l %}{% set outer = loop %}{% for y in [1] %}{{ outer.index }}{% endfor %}{% endfor %}",
    "{% set a = 1 %}{% for x in l %}{% set a = a + x %}{{ a }} {% endfor %}{{ a }}",
    "{% for x in l %}{{ a is defined }}{% set a = 1 %}{% endfor %}{{ a is defined }}",
    "{% set a = 1 %}{% if true %}{% set a = 2 %}{% endif %}{{ a }}",
    "{% set ns = namespace(a=1) %}{% for x in l %}{% set ns.a = ns.a + x %}{% endfor %}{{ ns.a }}",
    "{% set ns = namespace() %}{% set ns.x = 5 %}{{ ns.x }}{{ ns.y }}|{{ ns }}",
    "{% set d.x = 5 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set (a, b) = [1, 2] %}{{ a }}{{ b }}",
    "{% set a, b = [1] %}",
    "{% set a %}x{{ n }}y{% endset %}[{{ a }}]",
    "{% set a | upper %}x{{ n }}y{% endset %}[{{ a }}]",
    "{% set a | upper | replace('X', 'z') %}x{{ n }}y{% endset %}[{{ a }}]",
    "{% set a %}{% set b = 1 %}{{ b }}{% endset %}{{ a }}{{ b is defined }}",
    "{% set ns = namespace() %}{% set ns.x %}block{% endset %}{{ ns.x }}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }} {{ m() }}",
    "{% macro m(a, b=a) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(x=2) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(n) %}{% if n > 0 %}{{ n }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m() %}{{ n }}{% set n = 1 %}{% endmacro %}{{ m() }}{{ n }}",
    "{% macro m() %}{{ later }}{% endmacro %}{% set later = 'L' %}{{ m() }}",
    "{% for x in l %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body {{ n }}{% endcall %}",
    "{% macro m() %}[{{ caller(1, 2) }}]{% endmacro %}{% call(a, b) m() %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}{{ caller }}{% endmacro %}{{ m() }}|",
    "{% macro m() %}x{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro m() %}a{% endmacro %}{{ m() ~ 'b' }}{{ m() | upper }}{{ m().strip() }}{{ m() | length }}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'x': 2}) }}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(x=1, x=2) }}",
    "{% macro m() %}{% endmacro %}{{ m.name }}",
    "{% macro m(x) %}{{ x | default('none') }}{% endmacro %}{{ m() }}{{ m(none) }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}aa{% endfilter %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a is defined }}",
    "{% generation %}a{{ n }}{% set q = 1 %}{% endgeneration %}{{ q is defined }}",
    "{% for x in l %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}",
    "{%- generation -%}  a  {%- endgeneration -%}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% break %}{% else %}else{% endfor %}",
    "{% for x in l %}{% continue %}{% else %}else{% endfor %}",
    "{% for x in l %}{% if loop.index == 2 %}{% break %}{% endif %}{% else %}else{% endfor %}",
    "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %};{% endfor %}",
    "{% break %}",
    "{% raw %}{{ n }}{% if %}{% endraw %}",
    "{%- raw -%}  {{ n }}  {%- endraw -%}  x",
    "a {# comment #} b",
    "a {#- comment -#} b",
    "a\n{# comment #}\nb",
    "a\n  {# comment #}  \nb",
    "{# a {% if %} #}b",
    "{# unclosed",
    "a\n{% if true %}\nb\n{% endif %}\nc",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
    "a\n  {%- if true %}\n  b\n  {%- endif %}\nc\n",
    "a\n  {%- if true -%}\n  b\n  {%- endif -%}\nc\n",
    "a\n  {%+ if true %}\n  b\n  {%+ endif %}\nc\n",
    "a {% if true +%}\nb{% endif +%}\nc",
    "  {{ n }}  \n  {{- n }}  \n  {{ n -}}  \n x",
    "{{ n }}\n{{ n }}\n\n",
    "x  {% if true %}y{% endif %}  z",
    "  {% if true %}y{% endif %}",
    "\t{% set a = 1 %}\n\tx",
    "a\r\n{% if true %}\r\nb{% endif %}\r\n",
    "{{ 'a\r\nb' }}",
    "{% set x = 1 %}   {% set y = 2 %}\n  {% set z = 3 %}  \nend",
    "{{-n-}}",
    "a {{- -1 }}",
    "{{ {'a': {'b': 1}}.a.b }}",
    "{{ {'a': {'b': 1}}}}",
    "{%if n%}x{%endif%}",
    "{%for x in l%}{{x}}{%endfor%}",
    "{% if n : %}x{% endif %}",
    "{% if %}x{% endif %}",
    "{% if n %}x",
    "{% endif %}",
    "{% for x in l %}x",
    "{% nosuch %}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{% do l.append(1) %}",
    "{{ n",
    "{{ }}",
    "{{ n n }}",
    "{{ (n }}",
    "{{ n) }}",
    "{{ [1 }}",
    "{{ 'a }}",
    "{{ n | }}",
    "{{ n is }}",
    "{{ n. }}",
    "{{ $ }}",
    "{{ n ? 1 : 2 }}",
    "{{ n && 1 }}",
    "{% set 1 = 2 %}",
    "{% set true = 2 %}",
    "{% set x %}",
    "{% for loop in l %}{% endfor %}",
    "{% for x of l %}{% endfor %}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{{ s.upper( }}",
    "{{ f(a=1, 2) }}",
    "{% if false %}{{ 1 | nosuch }}{% endif %}ok",
    "{% if false %}{{ 1 is nosuch }}{% endif %}ok",
    "{{ 1 if true else 2 | nosuch }}",
    "{{ (1 | nosuch) if false else 2 }}",
    "{% if true %}{{ 1 | nosuch }}{% endif %}",
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
    "{% for m in messages[1:] %}{{ messages[loop.index0].role }} {% endfor %}",
    "{% for m in messages %}{% if m.tool_calls is defined and m.tool_calls is not none %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endif %}{% endfor %}",
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}{% endfor %}",
    "{% set loop_messages = messages %}{% for m in loop_messages | rejectattr('role', 'equalto', 'tool') %}{{ m.role }}{% endfor %}",
    "{% for i in range(messages | length - 1, -1, -1) %}{{ messages[i].role }} {% endfor %}",
    "{% for m in messages | reverse %}{{ m.role }} {% endfor %}",
    "{% for m in messages[::-1] %}{{ m.role }} {% endfor %}",
    "{% set x = [] %}{% for i in l %}{% set x = x + [i] %}{% endfor %}{{ x }}",
    "{% set m = messages | selectattr('role', 'equalto', 'user') %}{{ m | list | length }}{{ m | list | length }}",
    "{{ n }}{% set n = 8 %}{{ n }}",
    "{% set x = x | default('dflt') %}{{ x }}",
    "{% set x = 'a' if missing is defined else none %}{{ x }}{{ x is none }}",
    "{% if messages[0].role == 'system' %}{% set sys = messages[0].content %}{% endif %}{{ sys }}|{{ sys is defined }}",
    "{% if missing %}{% set sys = 1 %}{% endif %}{{ sys is defined }}{{ sys }}",
    "{% if messages[0]['content'] is string and messages[0]['content'] | length > 0 %}y{% endif %}",
    "{% for x in (1, 2) %}{{ x }}{% endfor %}{% for x in 1, 2 %}{{ x }}{% endfor %}",
    "{% for x in d.values() %}{{ x }},{% endfor %}{{ d.keys() | list }}{{ d.values() | length }}",
    "{% for x in range(3) %}{{ x }}{% endfor %}{% for x in range(2, 8, 3) %}{{ x }}{% endfor %}",
    "{% if n is odd %}odd{% endif %}{% if 'a' is not in d %}no{% else %}yes{% endif %}",
    "{{ n if n is defined }}{{ m if m is defined }}{{ 'x' if m is not defined else 'y' }}",
    "{{ '<b>' }}{{ '<b>' | safe }}",
    "{% set x = {'a': 1} %}{% set y = dict(x, b=2) %}{{ y }}",
    "{{ '\\n' }}{{ \"\\n\" }}{{ '\\\\n' }}",
    "line1\\nline2",
    "{% set content = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' + messages[1]['content'] %}{{ content }}",
    "{{ strftime_now('%d %b %Y') }}",
    "{%- set now = strftime_now(\"%Y-%m-%d\") if strftime_now is defined else '' -%}{{ now }}",
    "{% set s = 'x' %}{% for i in l %}{% set s = s ~ i %}{% endfor %}{{ s }}",
    "{% for a in l %}{% for b in l if b != a %}{{ a }}{{ b }} {% endfor %}{% endfor %}",
    "{% for x in l %}{% set y = x %}{% endfor %}{{ y }}",
    "{{ [1, 2, 3] | map('string') | join(',') }}{{ [1, [2, 3]] | string }}",
    "{% macro a() %}A{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "{% macro r(x) %}{% for k, v in x.items() %}{{ k }}({% if v is mapping %}{{ r(v) }}{% else %}{{ v }}{% endif %}){% endfor %}{% endmacro %}{{ r({'a': {'b': 1}, 'c': 2}) }}",
    "{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'tool' and not ns.found %}{% set ns.found = true %}{{ loop.index }}{% endif %}{% endfor %}{{ ns.found }}",
    "{{ messages | map(attribute='role') | unique | join(',') }}",
    "{{ (messages | last).content }}{{ (messages | first)['role'] }}",
    "{% if 'tool_calls' in messages[2] and messages[2].tool_calls %}calls{% endif %}",
    "{{ 'tool_calls' in messages[1] }}",
    "{{ messages[2].content or 'empty' }}",
    "{{ messages[2].content | default('empty', true) }}",
    "{{- '<|im_start|>' + messages[0].role + '\\n' + messages[0].content | trim + '<|im_end|>\\n' }}",
    "{{ '' if true }}{{ none if true }}",
    "{{ 1 }}{{ 2 }} {{ 3 }}",
    "",
    "\n",
    "plain",
    "{ { } } {x} %} }}",
    "{{ '}}' }}{{ \"%}\" }}",
    "{{ {} }}{{ {'a': {}} }}",
]

# What jinja2 renders and Lamina reports as not supported, rather than to render something else.
UNSUPPORTED = [
    "{{ '%c' % 65 }}",
    "{{ '{0.real}'.format(1) }}",
    '{{ s.encode() }}',
    "{{ dict([('a', 1)]) }}",
    '{{ self }}',
    "{{ 'a'|e }}",
    '{{ "\\N{BULLET}" }}',
    '{{ lipsum() }}',
    '{% for x in l %}{{ loop }}{% endfor %}',
    '{% for x in l recursive %}{{ x }}{% endfor %}',
    '{% print n %}',
    '{% block b %}x{% endblock %}',
    "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "{{ (s | safe) + '<' }}",
    '{{ s | safe | upper }}',
    '{{ cycler(1).next() }}',
    '{{ n.bit_length() }}',
    '{{ s | truncate(5) }}',
    '{{ {(1, 2): 3} }}',
    '{{ 2 ** 64 }}',
    '{{ 9223372036854775807 + 1 }}',
    '{{ 99999999999999999999 }}',
]

CONVERSATIONS = [
    ("user", {"messages": [{"role": "user", "content": "Hello, how are you?"}], "add_generation_prompt": True}),
    ("user_no_prompt", {"messages": [{"role": "user", "content": "  padded \n"}], "add_generation_prompt": False}),
    ("system", {"messages": [{"role": "system", "content": "You are kind."}, {"role": "user", "content": "Hi"}], "add_generation_prompt": True}),
    ("turns", {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>\nsum\n</think>\n\n2"}, {"role": "user", "content": "你好 👍"}], "add_generation_prompt": True}),
    ("closed", {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "add_generation_prompt": False}),
    ("twice_user", {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "add_generation_prompt": True}),
    ("tools", {"messages": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2}}}]}, {"role": "tool", "name": "weather", "tool_call_id": "abcdefghi", "content": "rain"}], "tools": [{"type": "function", "function": {"name": "weather", "description": "Weather <now> & \"here\"", "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "城市"}, "days": {"type": "integer"}}, "required": ["city"]}}}], "add_generation_prompt": True}),
    ("no_thinking", {"messages": [{"role": "user", "content": "q"}], "add_generation_prompt": True, "enable_thinking": False}),
]


def render(template, variables):
    try:
        text = chat_template_utils._compile_jinja_template(template).render(**variables)
        # What prints as an address in memory has no text worth keeping: it is an error here.
        return {"error": "prints an address"} if " at 0x" in text else {"rendered": text}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def write(name, value):
    text = json.dumps(value, ensure_ascii=True, indent=0)
    (HERE / name).write_text(text + "\n", encoding="utf-8")


# An expression that ends in a backslash goes on in the next line.
sources = []
for line in EXPRESSIONS.strip("\n").split("\n"):
    if sources and sources[-1].endswith("\\"):
        sources[-1] += "\n" + line
    else:
        sources.append(line)
templates = ["{{ " + source + " }}" for source in sources] + STATEMENTS
write("cases.json", {
    "now": NOW.isoformat(),
    "variables": VARIABLES,
    "cases": [{"template": template, **render(template, copy.deepcopy(VARIABLES))} for template in templates],
    "unsupported": UNSUPPORTED,
})

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
rendered = []
for path in sorted((HERE.parent / "templates").glob("*.jinja")):
    template = path.read_text(encoding="utf-8")
    for name, variables in CONVERSATIONS:
        # The library always passes these two.
        everything = {"tools": None, "documents": None, **TOKENS, **variables}
        rendered.append({"template": path.name, "name": name, "variables": variables, **render(template, everything)})
write("templates.json", {"now": NOW.isoformat(), "tokens": TOKENS, "cases": rendered})
