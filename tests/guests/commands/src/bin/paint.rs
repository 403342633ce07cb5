//! Writes as programs write to a terminal: colours, a progress that overwrites itself, and an erased line. Then it
//! echoes its input.

use commands::{hear, say};

fn main() -> std::io::Result<()> {
    say("\u{1b}[31mred\u{1b}[0m \u{1b}[38;5;46mgreen of 256\u{1b}[0m \u{1b}[38;2;1;2;250mtrue blue\u{1b}[0m plain\n")?;
    say("\u{1b}[1mbold\u{1b}[22m \u{1b}[3mitalic\u{1b}[23m \u{1b}[4munderline\u{1b}[24m \u{1b}[9mstruck\u{1b}[0m\n")?;
    for percent in [0, 50, 100] {
        say(format!("\rloading {percent}%"))?;
    }
    say("\nthis is to go\r\u{1b}[Kthis stays\n")?;
    say("one\ntwo\n\u{1b}[2A\u{1b}[2Kover one\n\n")?;
    // A sequence and a character in two parts each.
    say("\u{1b}[3")?;
    say("2mhalves\u{1b}[0m ")?;
    say([0xf0, 0x9f])?;
    say([0xa6, 0x80])?;
    say(" <script>document.title='owned'</script>\n")?;
    while let Some(line) = hear()? {
        say(format!("heard {line}\n"))?;
    }
    say("the end\n")
}
