//! Large modules are harmless and are served. The unit tests of the runtime cover invalid modules, byte by byte.

use distillery_tests::Server;

/// Encodes a number as WebAssembly does.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = number > 0x7f;
        bytes.push((number & 0x7f) as u8 | if more { 0x80 } else { 0 });
        number >>= 7;
        if !more {
            return bytes;
        }
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

/// Returns a preview 1 command that does nothing, with an unused segment of `size` bytes.
fn large_module(size: usize) -> Vec<u8> {
    let data = [&[1, 1][..], &leb(size), &vec![0xa5; size]].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[1, 0]),
        section(7, b"\x01\x06_start\x00\x00"),
        section(12, &[1]),
        section(10, &[1, 2, 0, 0x0b]),
        section(11, &data),
    ]
    .concat()
}

#[tokio::test]
async fn module_of_ten_megabytes_is_served() {
    let server = Server::builder()
        .file("plugins/large/large.wasm", large_module(10 << 20))
        .file("plugins/large/plugin.yaml", "calls: {large: {access: public}}\n")
        .start()
        .await;
    server.call("large", &[]).await.finish().await.success();
}
