"""The agent: our small program on the machine. Standard library only, Python 3.10 or newer, Linux and macOS.

It imports nothing outside this folder, because it travels: launcher/boot.py packs this folder into one file, without
comments and docstrings, and that file runs on the machine with whatever Python is there. What launcher and agent
share (the heartbeat's format, metric readers, early stop) lives here, and the launcher imports it from here.

It is given one JSON document, the orders (launcher/boot.py makes it; times are seconds after billing started):

    job, name, attempt       who we are
    cloud, spot              whose machine this is, and whether it may be taken back with a notice
    command, image, env      what to run: a container if there is an image, else a process
    workdir                  the folder it runs in
    soft_after_s             when the training gets SIGTERM; soft_outcome and soft_reason say which limit that is
    hard_after_s             when this machine must start to die, whatever happens
    hard_at                  the same as a time (seconds since 1970), or null where suspended time costs nothing
    grace_s                  from SIGTERM to SIGKILL
    notice_s                 what the machine has between its own shutdown signal and its death
    log_bytes                optional: where output.log is rotated
    stall                    {no_output_s, no_progress_s}, each a number or null
    metrics, early_stop      as in the job file (early_stop may be null)
    rate_usd_per_hour        what the machine costs, as text
    spent_usd                what the job had cost before this machine, as text
    cap_usd                  the job's cap, as text
    checkpoints              {path, every_s, keep} or null
    store                    null, or {"kind": "folder", "path"}, or a bucket that the machine reaches by its identity:
                             {"kind": "s3", "bucket", "prefix", "region"}, {"kind": "gcs", "bucket", "prefix"} or
                             {"kind": "blob", "account", "container", "prefix"}; optional: "endpoint"; for s3 "post",
                             {url, fields} of a form that only writes, and "archive_url", an address to read
    archive                  optional: {path, sha256, bytes} of the working folder in the store
    resume                   whether another machine's newest checkpoint is put back first
    egress                   {"bytes", "store_is_free"}: how much may leave the machine; or null where nothing is billed
    heartbeat_s              seconds between two heartbeats
    ending                   how this machine ends itself: "exit" (its processes are the machine), or a script's path
    console                  optional: serial ports for heartbeats, the first that works; else console.log
    prepare                  optional: a script that makes docker ready before the image is pulled
    rest                     optional: {url, sha256, needs}: where the modules are that did not fit the boot data

It leaves, in the machine's folder:

    console.log              heartbeats (on a rented machine: the serial console)
    output.log, output.log.1 what the training printed, the newest bytes, bounded
    training.json            pid, process group, start and container of the training, so that others can end it
    result.json              how it ended, written last

A heartbeat is one JSON object: `state` (booting, fetching, pulling, running, stopping, ended), `age_s` (since billing
started), `output_bytes`, `output_age_s`, `notes` (warnings for the user), and once known `pid`, `outcome`, `reason`,
`exit_code`, `metrics`, `progress`, `checkpoint`, `gpu`, `egress_bytes` (what left the machine), and `history` with
`history_of`: the monitored metric as `[age_s, step, value]`, thinned out.
"""
