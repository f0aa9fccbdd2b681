"""The HTML page around a report: its frame, and its style (plain, light, prints well)."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

STYLE = """\
body { margin: 0; background: #f4f6f8; color: #20262e;
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 0 0 10px; }
.summary { font-size: 17px; color: #55606d; margin: 0 0 24px; }
.warning { background: #fff4d6; border-left: 4px solid #e69f00; padding: 10px 14px; margin: 10px 0;
           border-radius: 4px; overflow-wrap: anywhere; }
figure, section { background: #fff; border: 1px solid #e1e6eb; border-radius: 10px;
                  padding: 18px 20px; margin: 20px 0 0; box-sizing: border-box; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: #55606d; font-size: 14px; }
figcaption:not(:empty) { margin-top: 10px; }
.tables { columns: 2 440px; column-gap: 20px; margin-top: 20px; }
.tables section { break-inside: avoid; margin: 0 0 20px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 5px 0; border-top: 1px solid #edf0f3; }
tr:first-child > * { border-top: 0; }
th { font-weight: 400; color: #55606d; padding-right: 18px; width: 44%; }
td { overflow-wrap: anywhere; }
@media print { body { background: #fff; } figure, section { break-inside: avoid; } }"""
