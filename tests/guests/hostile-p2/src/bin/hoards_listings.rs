//! Opens its first directory to be listed 900 times, and reads one entry each time.

use wasip2::filesystem::preopens::get_directories;

fn main() {
    let (directory, _) = &get_directories()[0];
    let mut listings = Vec::new();
    for _ in 0..900 {
        let Ok(listing) = directory.read_directory() else { break };
        if listing.read_directory_entry().is_err() {
            break;
        }
        listings.push(listing);
    }
    println!("listing");
    let mut line = String::new();
    _ = std::io::stdin().read_line(&mut line);
}
