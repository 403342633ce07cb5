//! The pages themselves: links, features that a code host can show, and pages that are generated from the code.

use crate::{is_on_the_path, is_there, read, repository};
use distillery_tests::program::{output_of_tool, program, text};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Directories without pages of this project.
const ELSEWHERE: [&str; 5] = ["target", "node_modules", "data", "found", "templates"];

/// Returns every page of the repository.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    find_pages(&repository(""), &mut pages);
    assert!(pages.len() > 40, "{pages:?}");
    pages
}

fn find_pages(directory: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !ELSEWHERE.contains(&name.as_str()) {
            find_pages(&path, pages);
        } else if name.ends_with(".md") {
            pages.push(path);
        }
    }
}

/// Returns the lines of a page outside of code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// Returns the targets of all links of a page, without code.
fn links(page: &str) -> Vec<String> {
    let text = prose(page).collect::<Vec<_>>().join("\n");
    // Every second piece is code.
    let text: String = text.split('`').step_by(2).collect();
    text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// Returns the anchors of a page, as code hosts make them from headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let words = fs::read_to_string(&page).expect("a page");
        for link in links(&words) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().expect("a directory").join(path) };
            let there = target.exists()
                && (anchor.is_empty() || fs::read_to_string(&target).is_ok_and(|it| anchors(&it).contains(anchor)));
            if !there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn code_host_shows_every_page_without_a_build() {
    for page in pages() {
        let words = fs::read_to_string(&page).expect("a page");
        let directive = words.lines().find(|line| line.starts_with("```{") || line.starts_with(":::"));
        assert_eq!(directive, None, "{}", page.display());
    }
}

#[test]
fn index_lists_every_page_of_the_documentation() {
    let mut listed: BTreeSet<String> = links(&read("docs/index.md")).into_iter().collect();
    listed.extend(links(&read("docs/languages.md")));
    let docs = repository("docs");
    for page in pages() {
        let Ok(name) = page.strip_prefix(&docs) else { continue };
        let name = name.to_str().expect("text");
        assert!(name == "index.md" || listed.contains(name), "docs/index.md does not list {name}");
    }
}

#[test]
fn readme_is_an_introduction_and_architecture_is_one_page() {
    for (page, most) in [("README.md", 160), ("ARCHITECTURE.md", 140)] {
        let lines = read(page).lines().count();
        assert!(lines <= most, "{page} has {lines} lines, more than {most}: say it in docs/");
    }
    let makefile = read("Makefile");
    for target in ["run", "test"] {
        assert!(read("README.md").contains(&format!("```sh\nmake {target}\n```")), "make {target}");
        assert!(makefile.contains(&format!("\n{target}: ")), "make {target}");
    }
    // The README names the binary that `make run` builds.
    assert!(makefile.contains("cargo run --profile quick ") && read("README.md").contains("$PWD/target/quick:"));
}

#[test]
fn generated_pages_are_current() {
    if !is_there(is_on_the_path("python3"), "python3") {
        return;
    }
    let output =
        output_of_tool(Command::new("python3").arg(repository("docs/generate.py")).arg("--check").arg(program()));
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn contributing_says_where_each_new_part_goes() {
    let page = read("CONTRIBUTING.md");
    let table =
        page.split("## Where does a new X go?").nth(1).and_then(|it| it.split("\n## ").next()).expect("a table");
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert_eq!(rows.len(), 10, "{rows:#?}");
    // Every named file exists. NAME, LANGUAGE and RESOURCE stand for the new one.
    let code = rows.iter().flat_map(|row| row.split('`').skip(1).step_by(2));
    let files = code.filter(|it| it.ends_with(".rs") || it.ends_with(".js") || it.ends_with(".py"));
    for file in files.filter(|it| !it.contains("NAME") && !it.contains("RESOURCE")) {
        let places = ["", "host/", "host/http/src/", "host/http/console/", "host/cli/src/"];
        assert!(places.iter().any(|place| repository(&format!("{place}{file}")).is_file()), "{file}");
    }
}
