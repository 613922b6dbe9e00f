//! `/.nqrust/process`: what the init runs. Lines `arg=`, `env=NAME=value`, `user=`, `dir=`, `stop=`; in values, `\n`, `\r` and
//! `\\` stand for a line feed, a carriage return and a backslash.

use std::path::Path;

pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub user: String,
    pub directory: String,
    pub stop: i32,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

impl Process {
    pub fn load(path: &str) -> Result<Process, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
        Process::parse(&text)
    }

    pub fn parse(text: &str) -> Result<Process, String> {
        let mut found = Process {
            directory: "/".to_string(),
            stop: 15,
            ..Process::default()
        };
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once('=').ok_or("a line without a key")?;
            let value = unescaped(value);
            match key {
                "arg" => found.arguments.push(value),
                "env" => {
                    let (name, value) =
                        value.split_once('=').ok_or("a variable without a value")?;
                    found.environment.retain(|(known, _)| known != name);
                    found
                        .environment
                        .push((name.to_string(), value.to_string()));
                }
                "user" => found.user = value,
                "dir" => found.directory = value,
                "stop" => found.stop = signal_number(&value).ok_or("an unknown signal")?,
                _ => {} // of a later version
            }
        }
        if found.arguments.is_empty() {
            return Err("the image names no command".to_string());
        }
        Ok(found)
    }

    /// Adds the variables that programs rely on, unless they have a value.
    pub fn complete(&mut self, account: &Account, hostname: &str) {
        for (name, value) in [
            ("PATH", DEFAULT_PATH),
            ("HOME", account.home.as_str()),
            ("HOSTNAME", hostname),
        ] {
            if !self.environment.iter().any(|(known, _)| known == name) {
                self.environment.push((name.to_string(), value.to_string()));
            }
        }
    }
}

fn unescaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match (c, c == '\\') {
            (_, true) => match rest.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => {}
            },
            (c, false) => out.push(c),
        }
    }
    out
}

/// The number of a signal on Linux: `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`.
pub fn signal_number(name: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let plain = name.strip_prefix("SIG").unwrap_or(name);
    let number = if let Some(more) = plain.strip_prefix("RTMIN+") {
        34 + more.parse::<i32>().ok()?
    } else if plain == "RTMIN" {
        34
    } else if let Ok(number) = plain.parse::<i32>() {
        number
    } else {
        NAMES.iter().position(|known| *known == plain)? as i32 + 1
    };
    (1..=64).contains(&number).then_some(number)
}

/// Who `user` is in the file system below `root`: `USER[:GROUP]`, names or numbers. An empty one is root.
pub fn account(user: &str, root: &Path) -> Result<Account, String> {
    let passwd = std::fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    let group = std::fs::read_to_string(root.join("etc/group")).unwrap_or_default();
    account_of(user, &passwd, &group)
}

fn account_of(user: &str, passwd: &str, group: &str) -> Result<Account, String> {
    let (name, wanted_group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let mut found = Account {
        home: "/".to_string(),
        ..Account::default()
    };
    let mut login = None;
    let entry = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 6 && (fields[0] == name || fields[2] == name));
    match entry {
        Some(fields) => {
            found.uid = number(fields[2])?;
            found.gid = number(fields[3])?;
            found.home = fields[5].to_string();
            login = Some(fields[0].to_string());
        }
        None => {
            found.uid = name
                .parse()
                .map_err(|_| format!("the image has no user {name}"))?;
            if found.uid == 0 {
                found.home = "/root".to_string();
            }
        }
    }
    let groups = || {
        group
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
    };
    if let Some(wanted) = wanted_group {
        let known = groups().find(|f| f.len() >= 3 && (f[0] == wanted || f[2] == wanted));
        found.gid = match known {
            Some(fields) => number(fields[2])?,
            None => wanted
                .parse()
                .map_err(|_| format!("the image has no group {wanted}"))?,
        };
    } else if let Some(login) = login {
        for fields in groups().filter(|f| f.len() >= 4 && f[3].split(',').any(|m| m == login)) {
            found.groups.push(number(fields[2])?);
        }
    }
    Ok(found)
}

fn number(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("the image's accounts have no number but {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/srv:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:103:other,web\nmail:x:104:webmaster\n";

    #[test]
    fn a_whole_file() {
        let p = Process::parse("arg=/bin/x\narg=a\\nb\\\\c\narg=\nenv=A=1=2\nenv=A=3\nuser=web\ndir=/srv\nstop=SIGQUIT\nnew=1\n").unwrap();
        assert_eq!(p.arguments, ["/bin/x", "a\nb\\c", ""]);
        assert_eq!(p.environment, [("A".to_string(), "3".to_string())]);
        assert_eq!(
            (p.user.as_str(), p.directory.as_str(), p.stop),
            ("web", "/srv", 3)
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(Process::parse("user=web\n")
            .unwrap_err()
            .contains("no command"));
        assert!(Process::parse("arg=a\nenv=A\n").is_err());
        assert!(Process::parse("arg=a\nstop=NO\n").is_err());
        assert!(Process::parse("nonsense\n").is_err());
    }

    #[test]
    fn signals() {
        for (name, number) in [
            ("SIGTERM", 15),
            ("QUIT", 3),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("SIGWINCH", 28),
            ("SIGSYS", 31),
        ] {
            assert_eq!(signal_number(name), Some(number), "{name}");
        }
        for name in ["", "SIG", "0", "65", "SIGRTMIN+99", "TERMINATE"] {
            assert_eq!(signal_number(name), None, "{name}");
        }
    }

    #[test]
    fn accounts() {
        let of = |user: &str| account_of(user, PASSWD, GROUP);
        let numbers = |user: &str| of(user).map(|a| (a.uid, a.gid, a.groups));
        assert_eq!(numbers(""), Ok((0, 0, vec![])));
        assert_eq!(numbers("web"), Ok((101, 102, vec![103])));
        assert_eq!(numbers("101"), Ok((101, 102, vec![103])));
        assert_eq!(numbers("web:logs"), Ok((101, 103, vec![])));
        assert_eq!(numbers("7:8"), Ok((7, 8, vec![])));
        assert_eq!(numbers("7"), Ok((7, 0, vec![])));
        assert_eq!(of("web").unwrap().home, "/srv");
        assert!(of("nobody").unwrap_err().contains("no user nobody"));
        assert!(of("web:nope").unwrap_err().contains("no group nope"));
        assert_eq!(account_of("", "", "").unwrap().home, "/root");
    }

    #[test]
    fn programs_get_a_path_and_a_home() {
        let mut p = Process::parse("arg=x\nenv=PATH=/bin\n").unwrap();
        p.complete(&account_of("web", PASSWD, GROUP).unwrap(), "vm1");
        let value = |name: &str| {
            p.environment
                .iter()
                .find(|(n, _)| n == name)
                .unwrap()
                .1
                .as_str()
        };
        assert_eq!(
            (value("PATH"), value("HOME"), value("HOSTNAME")),
            ("/bin", "/srv", "vm1")
        );
    }
}
