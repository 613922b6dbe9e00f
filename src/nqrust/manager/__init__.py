"""The manager: the API, the database, and the background work that brings hosts to the wanted state.

Layers, from the top: `app`; `api`; `work`; `hosts`; `unknown_vms`; `vms`; `templates`, `volumes`, `images`, `operations`;
`access`; `events`; `core`; `store`. A resource's routes and service share one folder. All tables are in `store`: they refer
to each other, and the schema reads as one page.
"""
