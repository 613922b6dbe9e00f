"""Shell form of the records for PostgreSQL roles, databases and rights: an undo script's functions and calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.postgres.undo import (
    CONNECTABLE,
    DROP_DATABASE,
    DROP_ROLE,
    OPTIONS,
    RELOAD,
    control,
    find,
    give_back,
    quote,
    role_stays,
    server,
)
from nqrust.installer.verbs.shell_words import call

FUNCTIONS = (
    r"""sql() { # user, statement, socket folder, port, program of the server, its configuration, its data folder, why it may stay, database if not postgres
    if ! grep -q "^$1:" /etc/passwd; then return 0; fi # the cluster is gone
    data_now "$6" "$7"
    if away_cluster; then
        try false "the cluster of $conf has no data in $data now. Mount its data or remove that cluster, then run this again; not done there: $2" || missed=1
        return
    fi
    if [ ! -e "$data/PG_VERSION" ]; then return 0; fi # it is gone, too
    set -- "$1" "$2" "$3" "$4" "$5" "$6" "$data" "$8" "${9:-}"
    if has psql && psql_as "$1" "$3" "$4" 'SELECT 1' >/dev/null 2>&1; then
        if [ -n "${9:-}" ] && ! psql_as "$1" "$3" "$4" 'CONNECTABLE' | grep -qxF -e "$9"; then
            return # the database is gone, or takes no connections
        fi
        said=$(psql_as "$1" "$3" "$4" "$2" "${9:-}" 2>&1) && return
    elif [ -x "$5" ]; then
        said=$(without_server "$@" 2>&1) && return
    else
        try false "the programs of PostgreSQL are gone. Install them again, then run this again; not done in $7: $2" || missed=1
        return
    fi
    case $said in
        *2BP01*) # dependent_objects_still_exist: the next run would meet them again
            if [ -n "$8" ]; then
                kept "$8"
                return
            fi
            ;;
        *3D000*) # invalid_catalog_name: the database is gone
            if [ -n "${9:-}" ]; then return; fi
            ;;
    esac
    printf '%s\n' "$said" >&2
    try false "$2" || missed=1
}
data_now() { # configuration of the server, data folder when this was written: leaves $data and its usual $place; it may have moved since
    conf=$1
    data=$2
    place=$2
    if [ -f "$1" ] || { [ -z "$1" ] && [ "$2" = /var/lib/pgsql/data ]; }; then cluster_of "$1"; fi
}
as_user() { # user, words. Without root's terminal: what that user runs could type there
    account=$1
    shift
    if has runuser; then
        setsid -w runuser -u "$account" -- "$@"
    else
        setsid -w setpriv --reuid "$(id -u -- "$account")" --regid "$(id -g -- "$account")" --init-groups -- "$@"
    fi
}
psql_as() { # user, socket folder, port, statement, database if not postgres
    as_user "$1" env PGREQUIREPEER="$1" PGOPTIONS='OPTIONS' psql -X -A -t -q -w -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -h "$2" -p "$3" -d "${5:-postgres}" -c "$4"
}
follow_rules() { # user, socket folder, port, pg_ctl, data folder: a server that does not run reads pg_hba.conf when it starts
    if has psql && psql_as "$1" "$2" "$3" 'RELOAD' >/dev/null 2>&1; then return; fi
    # Its rules may not let its owner in.
    if [ -x "$4" ] && as_user "$1" "$4" status -s -D "$5" >/dev/null 2>&1; then
        as_user "$1" "$4" reload -s -D "$5" || try false "RELOAD" || missed=1
    fi
}
without_server() { # as sql, for a cluster that does not run: postgres(1), --single
    printf '%s\n' "$2" | as_user "$1" "$5" --single -D "$7" ${6:+-c "config_file=$6"} -c exit_on_error=on \
        -c log_destination=stderr -c log_min_messages=fatal -c log_error_verbosity=verbose "${9:-postgres}" >/dev/null
}
""".replace("'CONNECTABLE'", f"'{CONNECTABLE}'")
    .replace("'OPTIONS'", f"'{OPTIONS}'")
    .replace("RELOAD", RELOAD)
)


def role(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    return _sql(context, args, DROP_ROLE.format(quote(str(args["name"]))), role_stays(args))


def database(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    return _sql(context, args, DROP_DATABASE.format(quote(str(args["name"]))), "")


def access(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    return _sql(context, args, give_back(args), "", str(args["name"]))


def rules(context: UndoContext, args: dict[str, Any]) -> Iterator[str]:
    yield call("restore_block", args["path"], args["marker"], args["prior"])
    cluster = find(context.host, args["cluster"])
    if cluster is not None:
        place = (cluster.socket_dir, cluster.port, control(cluster), cluster.data_dir)
        yield call("follow_rules", args["cluster"]["user"], *place)


def _sql(context: UndoContext, args: dict[str, Any], sql: str, stays: str, *database: str) -> Iterator[str]:
    """Yield the call. `stays`: message if other databases depend on the object; "" if that is a failure."""
    cluster = find(context.host, args["cluster"])
    if cluster is not None:
        place = (cluster.socket_dir, cluster.port, *server(cluster), cluster.data_dir)
        yield call("sql", args["cluster"]["user"], sql, *place, stays, *database)
