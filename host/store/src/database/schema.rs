//! The schema of the database, as the steps by which it grew.

/// The migrations, each from one version of the schema to the next. A released one never changes.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE users (
        name TEXT PRIMARY KEY,
        password TEXT,
        scopes TEXT NOT NULL,
        created INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        user TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
        hash BLOB NOT NULL UNIQUE,
        label TEXT NOT NULL,
        scopes TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER,
        used INTEGER
    ) STRICT;
    CREATE INDEX tokens_user ON tokens (user);
    CREATE TABLE sessions (
        hash BLOB PRIMARY KEY,
        user TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_user ON sessions (user);
    CREATE INDEX sessions_expires ON sessions (expires);
",
    "
    CREATE TABLE processes (
        id BLOB PRIMARY KEY,
        user TEXT NOT NULL,
        call TEXT NOT NULL,
        params TEXT NOT NULL,
        plugin TEXT NOT NULL,
        generation INTEGER NOT NULL,
        started INTEGER NOT NULL,
        ended INTEGER,
        outcome TEXT,
        message TEXT,
        stop TEXT,
        cleanup TEXT,
        value TEXT,
        cpu_ms INTEGER NOT NULL,
        memory INTEGER NOT NULL,
        bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX processes_user ON processes (user);
",
    "
    CREATE TABLE systems (
        slug TEXT PRIMARY KEY,
        url TEXT NOT NULL,
        tagline TEXT NOT NULL,
        entity_count INTEGER NOT NULL,
        bundle_count INTEGER NOT NULL,
        last_edit TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE news (
        id TEXT PRIMARY KEY,
        date TEXT NOT NULL,
        title TEXT NOT NULL,
        content TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE seeded (what TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
",
    // Processes belong to an account and not to a name. The owner is known only if the account of that name is older
    // than the process. A token that another token made ends with it.
    "
    ALTER TABLE users ADD COLUMN id TEXT;
    UPDATE users SET id = lower(hex(randomblob(16)));
    CREATE UNIQUE INDEX users_id ON users (id);
    ALTER TABLE tokens ADD COLUMN parent TEXT REFERENCES tokens ON DELETE CASCADE;
    CREATE INDEX tokens_parent ON tokens (parent);
    ALTER TABLE processes ADD COLUMN owner TEXT;
    UPDATE processes SET owner =
        (SELECT 'user:' || users.id FROM users WHERE name = user AND (created + 1) * 1000 <= started);
    CREATE INDEX processes_owner ON processes (owner);
",
    // A due time of a schedule is claimed by its row, so that it runs once, whatever number of servers see it.
    "
    CREATE TABLE schedules (
        name TEXT PRIMARY KEY,
        timetable TEXT NOT NULL,
        since INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE runs (
        schedule TEXT NOT NULL,
        due INTEGER NOT NULL,
        claimed INTEGER NOT NULL,
        state TEXT NOT NULL,
        message TEXT,
        process BLOB,
        PRIMARY KEY (schedule, due)
    ) STRICT;
    ALTER TABLE processes ADD COLUMN schedule TEXT;
",
    // Granted commands count apart from the guest.
    "
    ALTER TABLE processes ADD COLUMN commands INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE processes ADD COLUMN commands_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE processes ADD COLUMN commands_cpu_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE processes ADD COLUMN commands_memory INTEGER NOT NULL DEFAULT 0;
",
];
