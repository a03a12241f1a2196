"""Does each published idea earn its place? Every idea against the same without it, on data made to show what it is for.

python -m studies [IDEA...] --out ideas.json --markdown docs/recipes.md
"""
