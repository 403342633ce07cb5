use super::*;
use crate::stream::lines;

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn output() -> Output {
    Output::new(None, 1 << 20)
}

fn taken(output: &Output) -> Vec<String> {
    lines(&output.take()).map(|(line, _)| String::from_utf8_lossy(&line).into_owned()).collect()
}

#[test]
fn lines_are_split_wherever_the_writes_fall() {
    let output = output();
    for part in ["on", "e\ntwo\r", "\n\nfo", "ur"] {
        output.write(part.as_bytes());
    }
    assert_eq!(taken(&output), ["one", "two", ""]);
    assert_eq!(taken(&output), [""; 0]);
    output.finish();
    assert_eq!(taken(&output), ["four"]);
}

#[test]
fn prompt_is_sent_and_its_terminator_is_not_a_line() {
    let output = output();
    output.write(b"Name? ");
    assert_eq!(taken(&output), [""; 0]);
    output.prompt(|| 0);
    assert_eq!(taken(&output), ["Name? "]);
    output.write(b"\nHello\n");
    assert_eq!(taken(&output), ["Hello"]);
    output.write(b"\n");
    assert_eq!(taken(&output), [""]);
    output.finish();
    assert_eq!(taken(&output), [""; 0]);
}

#[test]
fn text_after_a_prompt_on_its_line_is_a_line() {
    let output = output();
    output.write(b"> ");
    output.prompt(|| 0);
    output.write(b"rest\nnext\n");
    assert_eq!(taken(&output), ["> ", "rest", "next"]);
}

#[test]
fn prompt_never_cuts_a_character() {
    let output = output();
    output.write("Größe ☃".as_bytes().split_last().unwrap().1);
    output.prompt(|| 0);
    assert_eq!(taken(&output), ["Größe "]);
    output.write(&["☃".as_bytes()[2]]);
    output.prompt(|| 0);
    assert_eq!(taken(&output), ["☃"]);
    output.write(b"\xff\xfe? ");
    output.prompt(|| 0);
    assert_eq!(taken(&output), ["\u{fffd}\u{fffd}? "]);
}

#[test]
fn guest_blocks_while_the_client_does_not_read() {
    let output = output();
    output.write("x\n".repeat(FULL / 2).as_bytes());
    assert_eq!(output.permit(), 0);
    assert!(output.poll_writable(&cx()).is_pending());
    assert_eq!(taken(&output).len(), FULL / 2);
    assert!(output.poll_writable(&cx()).is_ready());
    assert_eq!(output.permit(), WRITE);
}

#[test]
fn output_up_to_the_limit_is_taken() {
    let output = Output::new(Some(5), 1 << 20);
    assert_eq!(output.write(b"ab\n"), Written::Yes);
    assert_eq!(output.write(b"cdef\n"), Written::OverLimit(5));
    assert_eq!(output.write(b"more\n"), Written::Yes);
    output.finish();
    assert_eq!(taken(&output), ["ab", "cd"]);
    assert_eq!(output.total(), 5);
}

#[test]
fn line_has_a_maximum_length() {
    for plain in [false, true] {
        let output = Output::new(None, 10);
        if plain {
            output.raw_output();
        }
        assert_eq!(output.write(b"9\n0123456789"), Written::Yes);
        assert_eq!(output.write(b"0"), Written::LineTooLong(10), "{plain}");
    }
    let output = Output::new(None, 10);
    assert_eq!(output.write(b"01234567890"), Written::LineTooLong(10));
    output.finish();
    assert_eq!(taken(&output), ["0123456789"]);
}

#[test]
fn raw_output_is_sent_unchanged() {
    let output = output();
    output.raw_output();
    for part in [&b"Name? "[..], b"\n\r\n\xff", b"end"] {
        output.write(part);
        output.prompt(|| 0);
        assert_eq!(output.take(), part);
        assert_eq!(output.waited(), output.total());
    }
    output.write(b"not waited for");
    assert_eq!(output.waited(), output.total() - 14);
    output.take();
    output.finish();
    assert_eq!(output.take(), b""[..]);
}

#[test]
fn too_long_line_is_found_in_the_middle_of_a_write() {
    let output = Output::new(None, 4);
    assert_eq!(output.write(b"ab"), Written::Yes);
    assert_eq!(output.write(b"cd\nef\ngh"), Written::Yes);
    assert_eq!(output.write(b"\n1234\n12345\nafter\n"), Written::LineTooLong(4));
    output.finish();
    assert_eq!(taken(&output), ["abcd", "ef", "gh", "1234", "1234"]);
}

#[test]
fn limit_counts_whole_lines_too() {
    let output = Output::new(Some(7), 1 << 20);
    assert_eq!(output.write_line(b"ab"), Written::Yes);
    assert_eq!(output.write_line(b"cdefg"), Written::OverLimit(7));
    assert_eq!(output.write(b"more\n"), Written::Yes);
    assert_eq!(taken(&output), ["ab", "cdef"]);
    assert_eq!(output.total(), 7);
}

#[test]
fn next_guest_has_the_whole_limit_for_itself() {
    for plain in [false, true] {
        let output = Output::new(Some(8), 4);
        if plain {
            output.raw_output();
        }
        assert_eq!(output.write(b"abcde"), Written::LineTooLong(4));
        output.finish();
        output.renew();
        assert_eq!(output.write(b"1\n2\n3\n4"), Written::Yes, "{plain}");
        assert_eq!(output.write(b"\n5"), Written::OverLimit(8), "{plain}");
        output.finish();
        let first = if plain { "abcd" } else { "abcd\n" };
        assert_eq!(output.take(), format!("{first}1\n2\n3\n4\n"), "{plain}");
        assert_eq!(output.total(), 12);
    }
}

#[test]
fn guest_blocked_by_its_client_is_known() {
    let (output, now) = (output(), Instant::now());
    assert_eq!(output.held_until(now), None);
    output.write("x\n".repeat(FULL / 2).as_bytes());
    assert_eq!(output.held_until(now), Some(now));
    output.take();
    assert!(output.held_until(now).is_some_and(|until| until >= now));
}

#[test]
fn too_long_line_is_found_in_all_splits() {
    let whole = Output::new(None, 4);
    assert_eq!(whole.write(b"abcd\nabcde\nx\n"), Written::LineTooLong(4));
    whole.finish();
    let cut = Output::new(None, 4);
    assert_eq!(cut.write(b"abcd\nab"), Written::Yes);
    assert_eq!(cut.write(b"cde\nx\n"), Written::LineTooLong(4));
    cut.finish();
    assert_eq!((taken(&whole), whole.total()), (vec!["abcd".to_owned(), "abcd".to_owned()], 9));
    assert_eq!((taken(&cut), cut.total()), (vec!["abcd".to_owned(), "abcd".to_owned()], 9));
}

#[test]
fn terminator_after_a_prompt_can_be_split() {
    let output = output();
    output.write(b"name? ");
    output.prompt(|| 0);
    output.write(b"\r");
    output.write(b"\nnext\n");
    assert_eq!(taken(&output), ["name? ", "next"]);
    output.write(b"name? \r");
    output.prompt(|| 0);
    output.finish();
    assert_eq!(taken(&output), ["name? "]);
}

#[test]
fn waits_count_after_new_output_or_input() {
    let output = output();
    output.raw_output();
    for (written, read, waits) in
        [("", 0, 1), ("", 0, 1), ("? ", 0, 2), ("", 0, 2), ("", 3, 3), ("", 3, 3), ("ok", 6, 4)]
    {
        output.write(written.as_bytes());
        output.prompt(|| read);
        assert_eq!(output.waits(), waits, "{written:?} {read}");
    }
}
