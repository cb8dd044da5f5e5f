"""Writes the table of character classes in src/gguf/class.rs: Unicode 15.1 (Python 3.13), as runs.

    python3.13 classes.py > table.txt
"""

import sys
import unicodedata

assert unicodedata.unidata_version == "15.1.0", unicodedata.unidata_version

LETTERS = {"L": "L", "M": "M", "N": "N", "P": "P", "S": "S", "Z": "W", "C": "O"}
# White_Space has these control characters; it has every separator.
SPACES = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}

runs, begin = [], 0
classes = ["W" if code in SPACES else LETTERS[unicodedata.category(chr(code))[0]] for code in range(0x110000)]
for code in range(1, 0x110001):
    if code == 0x110000 or classes[code] != classes[begin]:
        length = code - begin
        runs.append(classes[begin] + (str(length) if length > 1 else ""))
        begin = code

line = ""
for run in runs:
    if len(line) + len(run) > 100:
        print(f"    {line}\\")
        line = ""
    line += run
sys.stdout.write(f"    {line}")
