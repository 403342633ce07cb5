//! Output of language runtimes, and the last words in it.

use super::*;

fn read(stderr: &str) -> LastWords {
    let mut words = LastWords::default();
    let mut lines = stderr.split('\n').peekable();
    while let Some(line) = lines.next() {
        match lines.peek() {
            Some(_) => words.line(line.as_bytes()),
            None => words.unfinished(line.as_bytes()),
        }
    }
    words
}

#[track_caller]
fn says(stderr: &str, expected: &str) {
    assert_eq!(read(stderr).words().as_deref(), (!expected.is_empty()).then_some(expected), "{stderr}");
}

#[track_caller]
fn panics(stderr: &str, expected: &str) {
    assert_eq!(read(stderr).panic().as_deref(), Some(expected), "{stderr}");
}

#[test]
fn rust_panic_has_its_place() {
    let note = "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
    panics(
        &format!("starting\n\nthread 'main' panicked at src/main.rs:3:5:\nthis was expected\n{note}"),
        "panicked at src/main.rs:3:5: this was expected",
    );
    panics(
        &format!("\nthread 'main' (1) panicked at /home/ada/call/src/main.rs:3:5:\nboom\n{note}"),
        "panicked at main.rs:3:5: boom",
    );
    panics(
        &format!(
            "thread '<unnamed>' panicked at src/a.rs:1:2:\nassertion `left == right` failed: sums\n  left: 1\n right: 2\n{note}"
        ),
        "panicked at src/a.rs:1:2: assertion `left == right` failed: sums left: 1 right: 2",
    );
    panics("thread 'main' panicked at 'boom', src/main.rs:3:5\n", "panicked at 'boom', src/main.rs:3:5");
    panics(&format!("thread 'main' panicked at src/main.rs:3:5:\n{note}"), "panicked at src/main.rs:3:5");
    let trace = "stack backtrace:\n   0: rust_begin_unwind\n             at /rustc/5980/library/std/src/panicking.rs:689:5\n   1: call::main\nnote: Some details are omitted\n";
    says(&format!("thread 'main' panicked at src/main.rs:3:5:\nboom\n{trace}"), "panicked at src/main.rs:3:5: boom");
    panics(
        &format!("thread 'main' panicked at src/a.rs:1:2:\nfirst\nsecond\n{note}"),
        "panicked at src/a.rs:1:2: first",
    );
}

#[test]
fn rust_error_has_its_cause() {
    says("Error: no capacitor\n", "Error: no capacitor");
    says("Error: cannot read\n\nCaused by:\n    No such file (os error 44)\n", "No such file (os error 44)");
    says("Error: a\n\nCaused by:\n    0: b\n    1: c\n\nStack backtrace:\n   0: x::y\n", "c");
    says("Error: a\n\nLocation:\n    src/main.rs:3:5\n", "Error: a");
}

#[test]
fn go_panic_has_no_goroutines() {
    let dump = "\ngoroutine 1 [running]:\nmain.main()\n\t/home/ada/call/main.go:5 +0x2\n\ngoroutine 7 gp=0x14 [chan receive, 2 minutes]:\nmain.f(...)\n\t/home/ada/call/main.go:9\ncreated by main.main in goroutine 1\n\t/home/ada/call/main.go:4 +0x3\n";
    says(&format!("panic: boom\n{dump}"), "panic: boom");
    says(&format!("panic: first\nsecond\n{dump}"), "panic: first");
    says(&format!("panic: a [recovered]\n\tpanic: b\n{dump}"), "panic: a [recovered] panic: b");
    let nil = "panic: runtime error: invalid memory address or nil pointer dereference";
    says(&format!("{nil}\n[signal 0xb code=0x0 addr=0x0 pc=0x0]\n{dump}"), nil);
    let deadlock = "fatal error: all goroutines are asleep - deadlock!";
    says(&format!("{deadlock}\n{dump}"), deadlock);
    says("2026/01/31 12:00:00 no such slug\n", "2026/01/31 12:00:00 no such slug");
}

#[test]
fn python_exception_has_no_traceback() {
    let frames = "  File \"/app/app.py\", line 3, in run\n    fail()\n    ~~~~^^\n  File \"/app/app.py\", line 9, in fail\n    raise ValueError(\"x\")\n";
    let trace = format!("Traceback (most recent call last):\n{frames}");
    says(&format!("{trace}ValueError: no such slug\n"), "ValueError: no such slug");
    says(
        &format!(
            "{trace}KeyError: 'a'\n\nDuring handling of the above exception, another exception occurred:\n\n{trace}ValueError: b\n"
        ),
        "ValueError: b",
    );
    says(
        "  File \"<stdin>\", line 1\n    x = (\n        ^\nSyntaxError: '(' was never closed\n",
        "SyntaxError: '(' was never closed",
    );
    says(&format!("{trace}RuntimeError: x\ngiving up\n"), "giving up");
    // The interpreter of a component panics as well, and its message does not explain the failure.
    let consequence = "\nthread '<unnamed>' (1) panicked at runtime/src/lib.rs:1293:29:\nPython function threw an unexpected exception\nnote: run with `RUST_BACKTRACE=1`\n";
    panics(&format!("{trace}ValueError: no such slug\n{consequence}"), "ValueError: no such slug");
    says(&format!("{trace}ValueError: no such slug\n{consequence}"), "ValueError: no such slug");
    panics(
        &format!("{trace}ValueError: x\ngoing on\n{}", consequence.trim_start()),
        "panicked at runtime/src/lib.rs:1293:29: Python function threw an unexpected exception",
    );
}

#[test]
fn c_assertion_has_no_directories() {
    panics("Assertion failed: x > 0 (call.c: main: 12)\n", "Assertion failed: x > 0 (call.c: main: 12)");
    panics("Assertion failed: x > 0 (/home/ada/call.c: main: 12)\n", "Assertion failed: x > 0 (call.c: main: 12)");
    panics(
        "step 1\nlibc++abi: terminating due to uncaught exception\n",
        "libc++abi: terminating due to uncaught exception",
    );
}

#[test]
fn zig_panic_has_no_source() {
    panics(
        "thread 1 panic: reached unreachable code\n/home/ada/call.zig:5:9: 0x12ab in main (call.wasm)\n        unreachable;\n        ^\n",
        "panic: reached unreachable code",
    );
    panics(
        "panic: index out of bounds\nUnable to dump stack trace: not implemented for Wasm\n",
        "panic: index out of bounds",
    );
    says("error: FileNotFound\nCannot print stack trace: debug info unavailable for target\n", "error: FileNotFound");
    says(
        "error: FileNotFound\n/home/ada/call.zig:5:9: 0x12ab in main (call)\n    try f();\n    ^\n",
        "error: FileNotFound",
    );
}

#[test]
fn javascript_error_has_no_stack() {
    says(
        "Uncaught Error: boom\n    at fail (call.js:3:9)\n    at call.js:10:3\n    at <anonymous>\n",
        "Uncaught Error: boom",
    );
    says("Error: boom\nStack:\n  fail@call.js:3:9\n  run@call.js:10:3\n", "Error: boom");
    says("Error: boom\nfail@call.js:3:9\n@call.js:10:3\n\nNode.js v22.1.0\n", "Error: boom");
    says("abort: boom in call.ts(3:5)\n", "abort: boom in call.ts(3:5)");
}

#[test]
fn stacks_of_other_languages_are_left_out() {
    says(
        "Exception in thread \"main\" java.lang.E: a\n\tat a.B.c(B.java:3)\n\t... 3 more\n",
        "Exception in thread \"main\" java.lang.E: a",
    );
    says(
        "Unhandled exception. System.E: a\n   at P.Main() in C:\\src\\P.cs:line 5\n",
        "Unhandled exception. System.E: a",
    );
    says("call.rb:3:in 'f': boom (E)\n\tfrom call.rb:7:in '<main>'\n", "call.rb:3:in 'f': boom (E)");
    says(
        "PHP Fatal error:  Uncaught E: b in /x/call.php:3\nStack trace:\n#0 {main}\n  thrown in /x/call.php on line 3\n",
        "PHP Fatal error:  Uncaught E: b in call.php:3",
    );
    says("lua: call.lua:1: boom\nstack traceback:\n\t[C]: in function 'error'\n", "lua: call.lua:1: boom");
}

#[test]
fn prompts_and_blank_lines_are_left_out() {
    says("no such user\nPassword: ", "no such user");
    says("no such user\nGo on? [y/N]", "no such user");
    says("no such user\n> ", "no such user");
    says("Password: ", "");
    says("no such user", "no such user");
    says("no such user\n \t\n\n---\n^^^\n", "no such user");
    says("\n \n", "");
    says("note: this is all\n", "");
}

#[test]
fn lines_that_look_a_little_like_frames_are_kept() {
    for line in [
        "at least two names are needed",
        "at least two (2)",
        "from here on: nothing",
        "# of names: 0",
        "ada@example.org is no user",
        "stack: too deep",
        "a goroutine [or two]:",
        "notes: none",
    ] {
        says(&format!("before\n{line}\n"), line);
    }
}

#[test]
fn terminal_sequences_are_removed() {
    says("\u{1b}[31merror\u{1b}[0m: no \u{1b}]0;title\u{7}slug\n\u{1b}[0m\n", "error: no slug");
    says("10 %\r20 %\rno space left\n", "no space left");
    says("no space left\r\n", "no space left");
}

#[test]
fn words_are_bounded() {
    let long = "ä".repeat(3000);
    assert_eq!(read(&format!("{long}\n")).words().map(|words| words.len()), Some(MOST));
    let panic = format!("thread 'main' panicked at a.rs:1:1:\n{long}\n  {long}\n  {long}\n");
    assert!(read(&panic).panic().is_some_and(|words| words.len() <= MOST));
}

#[test]
fn forgotten_words_do_not_come_back() {
    let mut words = read("panic: boom\n");
    words.forget();
    assert_eq!((words.words(), words.panic()), (None, None));
}
