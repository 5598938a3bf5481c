"""A run on whatever a page could mistake for something else than text, by the bundled pair of models."""

from tests.report_runs import read_paragraphs
from xmodel.pairing.comparing import align_models
from xmodel.pairing.settings import PairSettings

SAES = ("builtin:neox-demo-l2", "builtin:gemma-demo-l3")
TOWER = "Z" + "\u0351\u036d\u0309\u0320" * 60
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
HOSTILE = {
    "<script>window.pwned=1</script>.txt": (
        "A <script>window.pwned=2</script> came before </script><script>window.pwned=3</script> here."
    ),
    "<img src=x onerror=window.pwned=4>.txt": (
        'An <img src=x onerror="window.pwned=5"> and <svg/onload=window.pwned=6> and &lt;img&gt;.'
    ),
    "quotes \"'&amp;.txt": 'Quotes " and \' and & and &amp; and ` and \\ and \\" and <!-- and --> and ]]>.',
    "javascript:window.pwned=7.txt": "See javascript:window.pwned=8 and data:text/html,<b>pwned</b>.",
    "\u202eoverride\u202c.txt": (
        "Over \u202eedirrevo si siht\u202c and \u2067isolated\u2069 and \u2066 \u200f and \u061c marks."
    ),
    "{{7*7}} ${7*7} <%= 7*7 %>.txt": "Templates {{7*7}} {% raw %} {{ a.constructor('x')() }} %(x)s.",
    "escape\x1b[31m.txt": (
        "A NUL\x00in a word, \x1b[31mred\x1b[0m and \x1b]0;title\x07 and \x7f and \x08\x08 back."
    ),
    "towers.txt": f"A tower {TOWER} stands beside {TOWER}{TOWER} in the text.",
    "long words.txt": f"Here is {'a' * 10_000} and {'漢' * 10_000} and {'<b>' * 100} and {'é' * 10_000}.",
    f"family {FAMILY}.txt": f"{FAMILY} \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f44d\U0001f3fd \u200b \u2060.",
    "lines\u2028and\u2029.txt": "A line\u2028separator, paragraph\u2029separator, \x85 next \x0b \x0c line.",
    "\ufeffmark.txt": "A lone \ufeff mark and \ufffd and \U000e0041\U000e0042 tags and \ue000 private.",
    "عربي.txt": "كان البيت كبيرا وكان البحر بعيدا عن المدينة القديمة.",
    "עברית.txt": "הבית היה גדול והים היה רחוק מן העיר העתיקה (abc 123).",
    "देवनागरी.txt": "घर बड़ा था और समुद्र पुराने शहर से दूर था।",
    "中文.txt": "房子很大，海离旧城很远。他说：“你好”。",
}
"""Texts by the names of their documents."""
LABELS = (
    "</script><script>window.pwned=10</script>",
    "<img src=x onerror=window.pwned=11>",
    "=1+1",
    "\u202elabel",
)
"""Labels for the features, one after the other."""


def write_hostile_corpus(folder, copies=3):
    """A folder of text files with such names; a slash in a name makes a folder.

    Every text stands in its document three times, with ordinary sentences between.
    """
    plain = iter(read_paragraphs())
    for copy in range(copies):
        for name, text in HOSTILE.items():
            place = folder / f"copy-{copy}" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(f"{text} {next(plain)[:300]} {text}\n\n{text}".encode())
    return folder


def write_hostile_labels(path, count=2048):
    """A CSV file with a label for every feature."""
    lines = [f'{number},"{LABELS[number % len(LABELS)]}"' for number in range(count)]
    path.write_text("\n".join(["feature,label", *lines]) + "\n", "utf-8")
    return path


def make_hostile_run(path, corpus, copies=3):
    """A run of the bundled pair on these texts; `corpus` is the folder that they are written to."""
    write_hostile_corpus(corpus, copies)
    return align_models(
        *SAES,
        str(corpus),
        path,
        pairing=PairSettings(min_firings=3, workers=1),
        document="file",
        warn=lambda message: None,
    )
