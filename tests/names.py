"""Names of schemas that must be quoted well."""

NAMES = [
    "we\"ird it's two words ",
    '"; DROP SCHEMA public CASCADE; --',
    "'; DROP TABLE public.kept; --per%cent %s %(x)s $1 {0} b\\slash\\'",
    "UPPER Größe 音楽 \u200b\nnew\tline".ljust(55, "a"),  # 63 bytes
    "select",
]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
