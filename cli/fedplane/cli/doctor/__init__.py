"""`fedplane doctor`: what is wrong with a federation, and how to mend it.

A check is a pure function from what was seen to findings, and stands in a literal table under its name.
`server`, `roles`, `hub` and `machine` have the tables, `probing` looks, and `command` joins them.
"""
