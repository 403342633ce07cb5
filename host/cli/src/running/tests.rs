use super::*;

#[test]
fn plugins_are_listed_with_their_generations() {
    let answer = r#"[{"name": "echo", "state": "serving", "calls": ["echo", "say"], "generations": [
            {"generation": 3, "digest": null, "at": "2026-01-02T03:04:05.6Z", "state": "failed: no", "processes": 0},
            {"generation": 2, "digest": "0123456789abcdef", "at": "2026-01-02T03:04:05Z", "state": "serving", "processes": 2},
            {"generation": 1, "digest": "ff", "at": "?", "state": "retired with 1 process", "processes": 1}
        ]}, {"name": "no", "state": "failed", "calls": [], "generations": []},
        {"name": "script", "state": "serving", "calls": ["run"], "generations": [],
         "files": {"at": "/plugin", "count": 2, "size": 10}, "env": {"MODE": "loud", "TERM": "a\nb"}}]"#;
    let plugins: Vec<Plugin> = serde_json::from_str(answer).unwrap();
    let expected = "\
echo (serving): echo, say
     3  -             2026-01-02T03:04:05  failed: no
     2  0123456789ab  2026-01-02T03:04:05  serving 2 processes
     1  ff            ?  retired with 1 process
no (failed)
script (serving): run
        files at /plugin: 2, 10 bytes
        MODE=loud
        TERM=a\\nb
";
    assert_eq!(table(&plugins), expected);
}

#[test]
fn call_is_listed_with_its_usage() {
    let calls = r#"[{"name": "echo", "description": "Says it again", "params": [{"name": "lines", "required": true},
            {"name": "more", "rest": true}]}, {"name": "x", "params": null}, {"name": "y", "params": []}]"#;
    let calls: Vec<Called> = serde_json::from_str(calls).unwrap();
    assert_eq!(calls.iter().map(usage).collect::<Vec<_>>(), ["echo <lines> [more]…", "x […]", "y"]);
}

#[test]
fn processes_are_listed_with_their_usage() {
    let processes = r#"[{"id": "1", "call": "echo", "user": "", "started": "2026-01-02T03:04:05Z", "ended": null,
            "outcome": "running", "cpu_ms": 5, "memory": 1572864},
            {"id": "22", "call": "x", "user": "ada", "schedule": "nightly", "started": "2026-01-02T03:04:05Z", "ended": "2026-01-02T04:05:05Z",
            "outcome": "success", "cpu_ms": 61000, "memory": 0}]"#;
    let processes: Vec<Process> = serde_json::from_str(processes).unwrap();
    let now = OffsetDateTime::parse("2026-01-02T03:04:07.5Z", &Rfc3339).unwrap();
    let expected = "\
ID  CALL  USER                    TIME   CPU    MEMORY  OUTCOME
1   echo  -                       2.5s   5ms    1.5MiB  running
22  x     ada (schedule nightly)  1h01m  1m01s  0.0MiB  success
";
    assert_eq!(listed(&processes, now), expected);
}
