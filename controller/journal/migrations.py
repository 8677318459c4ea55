"""The tables of the journal, step by step: `PRAGMA user_version` is the number of steps that ran.

A migration is never edited once released; a new one is appended.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE releases (
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        phase TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
        source TEXT NOT NULL, placement TEXT NOT NULL, since REAL NOT NULL,
        PRIMARY KEY (pipeline, version, digest)
    ) WITHOUT ROWID;
    CREATE TABLE phases (
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        phase TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (pipeline, version, digest, phase),
        FOREIGN KEY (pipeline, version, digest) REFERENCES releases ON DELETE CASCADE
    ) WITHOUT ROWID;
    CREATE TABLE quarantines (
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        stage TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
        inputs TEXT NOT NULL, log_tail TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (pipeline, version, digest)
    ) WITHOUT ROWID;
    CREATE TABLE placements (
        name TEXT PRIMARY KEY, staged_at REAL, routed_at REAL, live_at REAL
    ) WITHOUT ROWID;
    CREATE TABLE conditions (
        subject TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, ok INTEGER NOT NULL,
        since REAL NOT NULL,
        PRIMARY KEY (subject, reason)
    ) WITHOUT ROWID;

    CREATE TABLE events (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, subject TEXT NOT NULL,
        pipeline TEXT, version TEXT, reason TEXT NOT NULL, message TEXT NOT NULL,
        fields TEXT NOT NULL
    );
    CREATE INDEX events_by_pipeline ON events (pipeline, version, id);

    CREATE TABLE configs (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, digest TEXT NOT NULL, cause TEXT NOT NULL
    );
    CREATE INDEX configs_by_digest ON configs (digest, id);
    CREATE TABLE config_texts (digest TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE listings (
        source TEXT PRIMARY KEY, at REAL NOT NULL, content TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE status (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        number INTEGER NOT NULL, at REAL NOT NULL, sentence TEXT NOT NULL, duration REAL NOT NULL,
        pid INTEGER NOT NULL, version TEXT NOT NULL, started_at REAL NOT NULL
    );
    """,
    "ALTER TABLE configs ADD COLUMN outcome TEXT NOT NULL DEFAULT 'Applied'",
    """
    CREATE TABLE overrides (
        kind TEXT NOT NULL, pipeline TEXT NOT NULL, versions TEXT NOT NULL,
        who TEXT NOT NULL, note TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (kind, pipeline)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE losses (
        source TEXT PRIMARY KEY, vanished INTEGER NOT NULL, live INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
    "ALTER TABLE placements ADD COLUMN building_since REAL",
    """
    CREATE TABLE refused_wheels (
        digest TEXT NOT NULL, filename TEXT NOT NULL, reason TEXT NOT NULL,
        message TEXT NOT NULL, inputs TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (digest, filename)
    ) WITHOUT ROWID;
    """,
    "CREATE TABLE owners (pipeline TEXT PRIMARY KEY, project TEXT NOT NULL) WITHOUT ROWID",
    """
    DELETE FROM releases WHERE (pipeline, version, digest) IN (
        SELECT pipeline, version, digest FROM (
            SELECT *, row_number() OVER (
                PARTITION BY pipeline, digest, canonical_version(version)
                ORDER BY since DESC, version DESC
            ) AS place FROM releases
        ) WHERE place > 1
    );
    DELETE FROM quarantines WHERE (pipeline, version, digest) IN (
        SELECT pipeline, version, digest FROM (
            SELECT *, row_number() OVER (
                PARTITION BY pipeline, digest, canonical_version(version)
                ORDER BY at DESC, version DESC
            ) AS place FROM quarantines
        ) WHERE place > 1
    );
    """,
    """
    DELETE FROM quarantines WHERE stage = 'inspect'
    AND reason IN ('FilenameInvalid', 'MetadataMismatch', 'NoEntryPoint', 'TagsIncompatible')
    """,
    """
    ALTER TABLE releases ADD COLUMN unsound INTEGER NOT NULL DEFAULT 0;
    UPDATE releases SET unsound = 1 WHERE phase IN ('Quarantined', 'Superseded') AND EXISTS (
        SELECT 1 FROM quarantines q WHERE q.stage = 'inspect' AND q.pipeline = releases.pipeline
        AND q.digest = releases.digest
        AND canonical_version(q.version) = canonical_version(releases.version)
    )
    """,
    """
    CREATE TABLE proven_weights (
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        weights TEXT NOT NULL, document TEXT NOT NULL, turn INTEGER NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (pipeline, digest, weights)
    ) WITHOUT ROWID;
    CREATE TABLE refused_weights (
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        weights TEXT NOT NULL, document TEXT NOT NULL, reason TEXT NOT NULL,
        message TEXT NOT NULL, log_tail TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (pipeline, digest, weights)
    ) WITHOUT ROWID;
    CREATE TABLE weights_owners (
        pipeline TEXT PRIMARY KEY, project TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE judged_weights (
        pipeline TEXT NOT NULL, project TEXT NOT NULL, version TEXT NOT NULL,
        digest TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
        PRIMARY KEY (pipeline, digest)
    ) WITHOUT ROWID;
    """,
    "CREATE TABLE parts (placement TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID",
    """
    ALTER TABLE judged_weights ADD COLUMN takers TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE refused_weights ADD COLUMN lifted_at REAL;
    """,
    """
    CREATE TABLE releases_on_clusters (
        cluster TEXT NOT NULL DEFAULT 'ray',
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        phase TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
        source TEXT NOT NULL, placement TEXT NOT NULL, since REAL NOT NULL,
        unsound INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (cluster, pipeline, version, digest)
    ) WITHOUT ROWID;
    INSERT INTO releases_on_clusters SELECT 'ray', * FROM releases;
    CREATE TABLE phases_on_clusters (
        cluster TEXT NOT NULL DEFAULT 'ray',
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        phase TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (cluster, pipeline, version, digest, phase),
        FOREIGN KEY (cluster, pipeline, version, digest)
        REFERENCES releases_on_clusters ON DELETE CASCADE
    ) WITHOUT ROWID;
    INSERT INTO phases_on_clusters SELECT 'ray', * FROM phases;
    DROP TABLE phases;
    DROP TABLE releases;
    ALTER TABLE releases_on_clusters RENAME TO releases;
    ALTER TABLE phases_on_clusters RENAME TO phases;

    CREATE TABLE quarantines_on_clusters (
        cluster TEXT NOT NULL DEFAULT 'ray',
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        stage TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
        inputs TEXT NOT NULL, log_tail TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (cluster, pipeline, version, digest)
    ) WITHOUT ROWID;
    INSERT INTO quarantines_on_clusters SELECT 'ray', * FROM quarantines;
    DROP TABLE quarantines;
    ALTER TABLE quarantines_on_clusters RENAME TO quarantines;

    CREATE TABLE proven_weights_on_clusters (
        cluster TEXT NOT NULL DEFAULT 'ray',
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        weights TEXT NOT NULL, document TEXT NOT NULL, turn INTEGER NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (cluster, pipeline, digest, weights)
    ) WITHOUT ROWID;
    INSERT INTO proven_weights_on_clusters SELECT 'ray', * FROM proven_weights;
    DROP TABLE proven_weights;
    ALTER TABLE proven_weights_on_clusters RENAME TO proven_weights;

    CREATE TABLE refused_weights_on_clusters (
        cluster TEXT NOT NULL DEFAULT 'ray',
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        weights TEXT NOT NULL, document TEXT NOT NULL, reason TEXT NOT NULL,
        message TEXT NOT NULL, log_tail TEXT NOT NULL, at REAL NOT NULL, lifted_at REAL,
        PRIMARY KEY (cluster, pipeline, digest, weights)
    ) WITHOUT ROWID;
    INSERT INTO refused_weights_on_clusters SELECT 'ray', * FROM refused_weights;
    DROP TABLE refused_weights;
    ALTER TABLE refused_weights_on_clusters RENAME TO refused_weights;

    CREATE TABLE placements_on_clusters (
        cluster TEXT NOT NULL DEFAULT 'ray',
        name TEXT NOT NULL, staged_at REAL, routed_at REAL, live_at REAL, building_since REAL,
        PRIMARY KEY (cluster, name)
    ) WITHOUT ROWID;
    INSERT INTO placements_on_clusters SELECT 'ray', * FROM placements;
    DROP TABLE placements;
    ALTER TABLE placements_on_clusters RENAME TO placements;

    CREATE TABLE parts_on_clusters (
        cluster TEXT NOT NULL DEFAULT 'ray', placement TEXT NOT NULL, content TEXT NOT NULL,
        PRIMARY KEY (cluster, placement)
    ) WITHOUT ROWID;
    INSERT INTO parts_on_clusters SELECT 'ray', * FROM parts;
    DROP TABLE parts;
    ALTER TABLE parts_on_clusters RENAME TO parts;

    CREATE TABLE conditions_on_clusters (
        cluster TEXT NOT NULL DEFAULT 'ray',
        subject TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, ok INTEGER NOT NULL,
        since REAL NOT NULL,
        PRIMARY KEY (cluster, subject, reason)
    ) WITHOUT ROWID;
    INSERT INTO conditions_on_clusters SELECT 'ray', * FROM conditions;
    DROP TABLE conditions;
    ALTER TABLE conditions_on_clusters RENAME TO conditions;

    CREATE TABLE losses_on_clusters (
        cluster TEXT NOT NULL DEFAULT 'ray', source TEXT NOT NULL,
        vanished INTEGER NOT NULL, live INTEGER NOT NULL,
        PRIMARY KEY (cluster, source)
    ) WITHOUT ROWID;
    INSERT INTO losses_on_clusters SELECT 'ray', * FROM losses;
    DROP TABLE losses;
    ALTER TABLE losses_on_clusters RENAME TO losses;

    ALTER TABLE configs ADD COLUMN cluster TEXT NOT NULL DEFAULT 'ray';
    """,
)
"""Migration n, counted from 1, leads from schema n - 1 to schema n."""
