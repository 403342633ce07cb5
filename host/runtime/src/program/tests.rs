use super::*;

#[test]
fn error_text_is_one_bounded_line() {
    assert_eq!(first_line("export name `a\u{4}b` is bad \nat offset 7"), "export name `a\\u{4}b` is bad");
    assert!(first_line("x".repeat(1000)).len() < 310);
}
