"""How job and configuration files are read: YAML with line numbers, one table of keys, errors that name the line.

`document` holds nodes that know their line, and the problems found in them; `yamlfile` turns YAML into nodes; `schema`
reads a section's keys and writes their JSON Schema; `kinds` says what a value may be, `job_kinds` what only the job
file has; `job_schema` and `config_schema` are the keys of the two files.
"""
