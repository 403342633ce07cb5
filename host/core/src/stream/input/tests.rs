use super::*;

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn new(limit: usize) -> Input {
    Input::new(limit, Duration::from_secs(60))
}

fn data(read: Read) -> Vec<u8> {
    match read {
        Read::Data(data) => data.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_come_out_in_order_with_their_terminators() {
    let input = new(1 << 20);
    assert!(input.poll_readable(&cx()).is_pending());
    for line in ["one", "", "three"] {
        input.push_line(line, Instant::now(), &cx());
    }
    assert!(input.poll_readable(&cx()).is_ready());
    let now = Instant::now();
    assert_eq!(data(input.read(5, now)), b"one\n\n");
    assert_eq!(data(input.read(100, now)), b"three\n");
    assert_eq!(input.read(100, now), Read::Empty);
    input.end();
    assert_eq!(input.read(100, now), Read::Ended);
    assert_eq!(input.total(), 11);
}

#[test]
fn end_drops_waiting_data() {
    let input = new(1 << 20);
    input.push_line("unread", Instant::now(), &cx());
    input.end();
    assert_eq!(input.read(100, Instant::now()), Read::Ended);
    input.push_line("too late", Instant::now(), &cx());
    assert_eq!(input.read(100, Instant::now()), Read::Ended);
}

#[test]
fn waiting_data_is_read_before_an_orderly_end() {
    let input = new(1 << 20);
    input.push(b"no terminator", Instant::now(), &cx());
    input.finish();
    input.push(b"too late", Instant::now(), &cx());
    assert!(input.poll_readable(&cx()).is_ready());
    assert_eq!(data(input.read(100, Instant::now())), b"no terminator");
    assert_eq!(input.read(100, Instant::now()), Read::Ended);
}

#[test]
fn room_grows_with_time_up_to_the_limit() {
    let input = new(1 << 20);
    let start = Instant::now();
    let line = "x".repeat(32 << 10);
    assert_eq!(input.room(start, &cx()), Room::Now);
    input.push_line(&line, start, &cx());
    input.push_line(&line, start, &cx());
    assert_eq!(input.room(start, &cx()), Room::Later(start + Duration::from_millis(1)));
    assert_eq!(input.room(start + Duration::from_millis(1), &cx()), Room::Now);

    let filled = start + Duration::from_millis(500);
    for _ in 0..30 {
        input.push_line(&line, filled, &cx());
    }
    assert_eq!(input.room(filled, &cx()), Room::Full(filled));
    input.push_line(&line, filled + Duration::from_secs(1), &cx());
    assert_eq!(input.room(filled, &cx()), Room::Full(filled));

    while let Read::Data(_) = input.read(usize::MAX, filled) {}
    assert_eq!(input.room(filled, &cx()), Room::Now);
}

#[test]
fn slow_guest_keeps_a_full_buffer_alive() {
    let input = new(128 << 10);
    let start = Instant::now();
    for _ in 0..5 {
        input.push_line(&"x".repeat(32 << 10), start, &cx());
    }
    let read = start + Duration::from_secs(9);
    data(input.read(10, read));
    assert_eq!(input.room(read + Duration::from_secs(5), &cx()), Room::Full(read));
    data(input.read(64 << 10, read));
    assert_eq!(input.room(read, &cx()), Room::Now);
}

#[test]
fn full_buffer_takes_no_more_memory_than_its_limit() {
    const FRAME: usize = 100 << 10;
    let input = new(4 << 20);
    let now = Instant::now();
    for round in 0..200 {
        while input.room(now + Duration::from_secs(9), &cx()) == Room::Now {
            input.push(&[7; FRAME], now, &cx());
        }
        data(input.read(30 << 10, now));
        let capacity = input.state.lock().buffer.capacity();
        assert!(capacity <= (4 << 20) + FRAME + SPENT, "{capacity} in round {round}");
    }
}

#[test]
fn offer_is_taken_whole_or_refused() {
    let (input, now) = (new(4), Instant::now());
    assert_eq!((input.offer(b"abc", now), input.offer(b"de", now)), (Offered::Taken, Offered::Full));
    assert_eq!(data(input.read(9, now)), b"abc");
    assert_eq!((input.offer(b"abcde", now), input.offer(b"de", now)), (Offered::Full, Offered::Taken));
    input.finish();
    assert_eq!((input.offer(b"", now), data(input.read(9, now))), (Offered::Ended, b"de".to_vec()));
}
