"""The manager: the API, the database, and the work that keeps hosts as they should be.

Layers, from the top: `app`; `api`; `work`; `hosts`; `unknown_vms`; `vms`; `templates`, `volumes`, `images`, `operations`;
`access`; `events`; `core`; `store`. A resource's routes and service stand in one folder. Tables stand in `store`: they
refer to each other, and the schema is read as one page.
"""
