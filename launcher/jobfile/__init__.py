"""How job and configuration files are read: YAML with line numbers, one table of keys, errors that name the line.

    document.py       nodes that know their line, and the problems found in them
    yamlfile.py       YAML to nodes
    schema.py         a section's keys: reading them, and their JSON Schema
    kinds.py          what a value may be: numbers, durations, amounts, paths
    job_kinds.py      the kinds that only the job file has
    job_schema.py     the job file's keys
    config_schema.py  the configuration file's keys
"""
