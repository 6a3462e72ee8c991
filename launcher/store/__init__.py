"""The store on the launcher's side: a folder, S3, GCS or Blob storage behind one interface; what is in it; pulling it.

`bucket` speaks to the storage; `store` knows what lies where; `pull` brings a job home, through `pull_folder`;
`archive` packs a working folder, and `ignore` says what stays out of it.
"""
