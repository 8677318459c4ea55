BEGIN TRANSACTION;
CREATE TABLE conditions (
        subject TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, ok INTEGER NOT NULL,
        since REAL NOT NULL,
        PRIMARY KEY (subject, reason)
    ) WITHOUT ROWID;
INSERT INTO "conditions" VALUES('Bad Name.whl','FilenameInvalid','Bad Name.whl is no wheel''s file name (Invalid wheel filename (letters, digits and _ . + ! - only): ''Bad Name.whl''); publish it under the name its build gave it',0,1000230.0);
INSERT INTO "conditions" VALUES('cedar@1.0+08ac98ac','Queued','2 releases are starting (rollout.max_staging)',0,1000350.0);
INSERT INTO "conditions" VALUES('elm-1.0-py3-none-any.whl','NotAPipelineWheel','elm-1.0-py3-none-any.whl has no entry point in the group `wheelway.pipelines`, so it is left alone; if it is to be served, add [project.entry-points."wheelway.pipelines"] with `name = "module:Class"` to its pyproject.toml and rebuild it',1,1000230.0);
INSERT INTO "conditions" VALUES('ivy','Suspended','suspended by bob (see 42): nothing changes, what serves goes on; `wheelway resume ivy` ends it',0,1000130.0);
INSERT INTO "conditions" VALUES('lily@1.0+1aa49e46','WeightsRefused','lily-weights@2026.11.28+27c81f7b failed with it (LoadFailed); lily-weights@2026.11.27+7bee3123 stay in force. Publish others, or `wheelway quarantine clear lily 2026.11.28 --weights` has these tried again. Why: load() raised ValueError: 3 classes, not 4',0,1000520.0);
INSERT INTO "conditions" VALUES('moss@1.0+e48d71a3','RouteConflict','application ''theirs'', which is not wheelway''s, holds /predict/moss/1.0',0,1000130.0);
CREATE TABLE config_texts (digest TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "config_texts" VALUES('1bef1c3fd0c77e1f7153cd925d8063df508fbf50459a2054c23264e98535be04','applications: []
');
INSERT INTO "config_texts" VALUES('71b6803d29eeff1841d38b553f41b069e3940aa1506aa3dce0c14e28ca27d037','applications: []
');
INSERT INTO "config_texts" VALUES('b91692d59a3ca01c4d8ba679ed76e46fe362c77d724d755664683ff16825d662','applications: []
');
CREATE TABLE configs (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, digest TEXT NOT NULL, cause TEXT NOT NULL
    , outcome TEXT NOT NULL DEFAULT 'Applied');
INSERT INTO "configs" VALUES(11,1000400.0,'b91692d59a3ca01c4d8ba679ed76e46fe362c77d724d755664683ff16825d662','change lily-1.0-9f4b3d1b: NewWeights: replicas load other weights, which restarts nothing (none -> lily-weights@2026.11.26+83c97cd7)','Applied');
INSERT INTO "configs" VALUES(12,1000450.0,'1bef1c3fd0c77e1f7153cd925d8063df508fbf50459a2054c23264e98535be04','change lily-1.0-9f4b3d1b: NewWeights: replicas load other weights, which restarts nothing (lily-weights@2026.11.26+83c97cd7 -> lily-weights@2026.11.27+7bee3123)','Applied');
INSERT INTO "configs" VALUES(13,1000500.0,'71b6803d29eeff1841d38b553f41b069e3940aa1506aa3dce0c14e28ca27d037','change lily-1.0-9f4b3d1b: NewWeights: replicas load other weights, which restarts nothing (lily-weights@2026.11.27+7bee3123 -> lily-weights@2026.11.28+27c81f7b)','Applied');
INSERT INTO "configs" VALUES(14,1000520.0,'1bef1c3fd0c77e1f7153cd925d8063df508fbf50459a2054c23264e98535be04','change lily-1.0-9f4b3d1b: WeightsRolledBack: it goes back to weights that it was live with (lily-weights@2026.11.28+27c81f7b -> lily-weights@2026.11.27+7bee3123)','Applied');
CREATE TABLE events (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, subject TEXT NOT NULL,
        pipeline TEXT, version TEXT, reason TEXT NOT NULL, message TEXT NOT NULL,
        fields TEXT NOT NULL
    );
INSERT INTO "events" VALUES(99,1000350.0,'cedar@1.0+08ac98ac','cedar','1','Queued','2 releases are starting (rollout.max_staging)','{"before": "Fetched", "digest": "08ac98ac85a8f4299d214d58f5846b2326366a6ea8ea25ae28aaaf099daba53a", "phase": "Prepared", "placement": "cedar-1.0-51793bc7"}');
INSERT INTO "events" VALUES(100,1000350.0,'cedar@1.0+08ac98ac','cedar','1','Queued','2 releases are starting (rollout.max_staging)','{"condition": "appeared", "ok": false}');
INSERT INTO "events" VALUES(101,1000360.0,'aster@1.0+df12f4ce','aster','1','Building','Serve builds the application','{"before": "Prepared", "digest": "df12f4ced67860301ecc998d2cf2e94d809ed6553f30138342d75c0113d396e6", "phase": "Staged", "placement": "aster-1.0-131d413f"}');
INSERT INTO "events" VALUES(102,1000360.0,'balsam@1.0+89dfb1b4','balsam','1','Building','Serve builds the application','{"before": "Prepared", "digest": "89dfb1b410e7fc54ea212ee3811ef6b5e43f4521cdcf240d1a87b593b619f3db", "phase": "Staged", "placement": "balsam-1.0-89da8dee"}');
INSERT INTO "events" VALUES(103,1000370.0,'aster@1.0+df12f4ce','aster','1','Starting','a replica imports, loads and runs the examples','{"before": "Staged", "digest": "df12f4ced67860301ecc998d2cf2e94d809ed6553f30138342d75c0113d396e6", "phase": "Staged", "placement": "aster-1.0-131d413f"}');
INSERT INTO "events" VALUES(104,1000370.0,'balsam@1.0+89dfb1b4','balsam','1','Starting','a replica imports, loads and runs the examples','{"before": "Staged", "digest": "89dfb1b410e7fc54ea212ee3811ef6b5e43f4521cdcf240d1a87b593b619f3db", "phase": "Staged", "placement": "balsam-1.0-89da8dee"}');
INSERT INTO "events" VALUES(105,1000420.0,'lily@1.0+1aa49e46','lily','1','WeightsLive','every replica answers with lily-weights@2026.11.26+83c97cd7','{"former": "", "weights": "lily-weights@2026.11.26+83c97cd7"}');
INSERT INTO "events" VALUES(106,1000470.0,'lily@1.0+1aa49e46','lily','1','WeightsLive','every replica answers with lily-weights@2026.11.27+7bee3123, before with lily-weights@2026.11.26+83c97cd7','{"former": "lily-weights@2026.11.26+83c97cd7", "weights": "lily-weights@2026.11.27+7bee3123"}');
INSERT INTO "events" VALUES(107,1000520.0,'lily@1.0+1aa49e46','lily','1','LoadFailed','lily-weights@2026.11.28+27c81f7b are quarantined for it: load() raised ValueError: 3 classes, not 4','{"digest": "27c81f7b0168b298e32776bfd0bbf802193978242c8f1f98636e0226fc3cd41f", "weights": "lily-weights@2026.11.28+27c81f7b"}');
INSERT INTO "events" VALUES(108,1000520.0,'lily@1.0+1aa49e46','lily','1','WeightsRefused','lily-weights@2026.11.28+27c81f7b failed with it (LoadFailed); lily-weights@2026.11.27+7bee3123 stay in force. Publish others, or `wheelway quarantine clear lily 2026.11.28 --weights` has these tried again. Why: load() raised ValueError: 3 classes, not 4','{"condition": "appeared", "ok": false}');
INSERT INTO "events" VALUES(109,1.0,'iris@1.1+32ea4240','iris','1.1','WeightsLive','every replica answers with iris-weights@2026.1+11111111','{"former": "", "weights": "iris-weights@2026.1+11111111"}');
INSERT INTO "events" VALUES(110,2.0,'iris@1.1+32ea4240','iris','1.1','WeightsLive','every replica answers with iris-weights@2026.2+22222222, before with iris-weights@2026.1+11111111','{"former": "iris-weights@2026.1+11111111", "weights": "iris-weights@2026.2+22222222"}');
INSERT INTO "events" VALUES(111,3.0,'iris@1.1+32ea4240','iris','1.1','LoadFailed','iris-weights@2026.3+33333333 are quarantined for it: bad','{"digest": "3333333333333333333333333333333333333333333333333333333333333333", "weights": "iris-weights@2026.3+33333333"}');
CREATE TABLE judged_weights (
        pipeline TEXT NOT NULL, project TEXT NOT NULL, version TEXT NOT NULL,
        digest TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, takers TEXT NOT NULL DEFAULT '[]',
        PRIMARY KEY (pipeline, digest)
    ) WITHOUT ROWID;
INSERT INTO "judged_weights" VALUES('lily','lily-weights','2026.11.28','27c81f7b0168b298e32776bfd0bbf802193978242c8f1f98636e0226fc3cd41f','Quarantined','failed with 1.0, see `wheelway explain lily`','[]');
INSERT INTO "judged_weights" VALUES('lily','lily-weights','2026.11.27','7bee31237fb38b8abd6eff11a12f5c4ec50cbca0c97ae70f587c331e4c2345b0','Elected','for 1.0','["1.0"]');
INSERT INTO "judged_weights" VALUES('lily','lily-weights','2026.11.26','83c97cd7e8e297d3fb1f37e7b295b10e5a51c7bb7a21576580fe03651e25905d','NotKept','keep = 1, which newer versions fill: 2026.11.27','[]');
CREATE TABLE listings (
        source TEXT PRIMARY KEY, at REAL NOT NULL, content TEXT NOT NULL
    ) WITHOUT ROWID;
INSERT INTO "listings" VALUES('wheels',1000500.0,'{"pending":[],"refused":[{"message":"Bad Name.whl is no wheel''s file name (Invalid wheel filename (letters, digits and _ . + ! - only): ''Bad Name.whl''); publish it under the name its build gave it","reason":"FilenameInvalid","subject":"Bad Name.whl"}],"revisions":[],"source":"wheels"}');
CREATE TABLE losses (
        source TEXT PRIMARY KEY, vanished INTEGER NOT NULL, live INTEGER NOT NULL
    ) WITHOUT ROWID;
INSERT INTO "losses" VALUES('wheels',3,4);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('clock','this boot 0.0');
INSERT INTO "meta" VALUES('known_weights','[["lily", {"digest": "27c81f7b0168b298e32776bfd0bbf802193978242c8f1f98636e0226fc3cd41f", "package": "lily_weights", "project": "lily-weights", "record_digest": "b10c08cbb439fe80d600943f7ec39ee40a947d030d4d1e1185baa748b8114000", "tree": "/srv/wheelway/cache/trees/27/27c81f7b0168b298e32776bfd0bbf802193978242c8f1f98636e0226fc3cd41f", "version": "2026.11.28"}, ""], ["lily", {"digest": "7bee31237fb38b8abd6eff11a12f5c4ec50cbca0c97ae70f587c331e4c2345b0", "package": "lily_weights", "project": "lily-weights", "record_digest": "8830db6ef7f51051aa87a4902acace8f91d4a080b51f8aaabee6c95666b496b3", "tree": "/srv/wheelway/cache/trees/7b/7bee31237fb38b8abd6eff11a12f5c4ec50cbca0c97ae70f587c331e4c2345b0", "version": "2026.11.27"}, ""], ["lily", {"digest": "83c97cd7e8e297d3fb1f37e7b295b10e5a51c7bb7a21576580fe03651e25905d", "package": "lily_weights", "project": "lily-weights", "record_digest": "14cc2b681f832e1da0c7888ed0ad885d025f9460e89fb8f8cabf88b8f049d48e", "tree": "/srv/wheelway/cache/trees/83/83c97cd7e8e297d3fb1f37e7b295b10e5a51c7bb7a21576580fe03651e25905d", "version": "2026.11.26"}, ""]]');
INSERT INTO "meta" VALUES('written_by','0.1.0');
CREATE TABLE overrides (
        kind TEXT NOT NULL, pipeline TEXT NOT NULL, versions TEXT NOT NULL,
        who TEXT NOT NULL, note TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (kind, pipeline)
    ) WITHOUT ROWID;
INSERT INTO "overrides" VALUES('pin','rose','["1.0"]','alice','',1000120.0);
INSERT INTO "overrides" VALUES('suspension','ivy','[]','bob','see 42',1000120.0);
CREATE TABLE owners (pipeline TEXT PRIMARY KEY, project TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "owners" VALUES('aster','aster');
INSERT INTO "owners" VALUES('balsam','balsam');
INSERT INTO "owners" VALUES('birch','birch');
INSERT INTO "owners" VALUES('cedar','cedar');
INSERT INTO "owners" VALUES('fern','fern');
INSERT INTO "owners" VALUES('iris','iris');
INSERT INTO "owners" VALUES('ivy','ivy');
INSERT INTO "owners" VALUES('lily','lily');
INSERT INTO "owners" VALUES('lotus','lily');
INSERT INTO "owners" VALUES('moss','moss');
INSERT INTO "owners" VALUES('rose','rose');
CREATE TABLE parts (placement TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "parts" VALUES('iris-1.1-42cb7787','[{"inline": false, "message": "", "name": "scaler", "running": 1, "state": "HEALTHY", "wanted": 1}]');
CREATE TABLE phases (
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        phase TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (pipeline, version, digest, phase),
        FOREIGN KEY (pipeline, version, digest) REFERENCES releases ON DELETE CASCADE
    ) WITHOUT ROWID;
INSERT INTO "phases" VALUES('aster','1.0','df12f4ced67860301ecc998d2cf2e94d809ed6553f30138342d75c0113d396e6','Discovered',1000350.0);
INSERT INTO "phases" VALUES('aster','1.0','df12f4ced67860301ecc998d2cf2e94d809ed6553f30138342d75c0113d396e6','Fetched',1000350.0);
INSERT INTO "phases" VALUES('aster','1.0','df12f4ced67860301ecc998d2cf2e94d809ed6553f30138342d75c0113d396e6','Prepared',1000350.0);
INSERT INTO "phases" VALUES('aster','1.0','df12f4ced67860301ecc998d2cf2e94d809ed6553f30138342d75c0113d396e6','Staged',1000360.0);
INSERT INTO "phases" VALUES('balsam','1.0','89dfb1b410e7fc54ea212ee3811ef6b5e43f4521cdcf240d1a87b593b619f3db','Discovered',1000350.0);
INSERT INTO "phases" VALUES('balsam','1.0','89dfb1b410e7fc54ea212ee3811ef6b5e43f4521cdcf240d1a87b593b619f3db','Fetched',1000350.0);
INSERT INTO "phases" VALUES('balsam','1.0','89dfb1b410e7fc54ea212ee3811ef6b5e43f4521cdcf240d1a87b593b619f3db','Prepared',1000350.0);
INSERT INTO "phases" VALUES('balsam','1.0','89dfb1b410e7fc54ea212ee3811ef6b5e43f4521cdcf240d1a87b593b619f3db','Staged',1000360.0);
INSERT INTO "phases" VALUES('birch','1.0','98318144bf2df2dbcd939990d5810fd5ffb79331c8a893e391d38365aab1e39d','Discovered',1000130.0);
INSERT INTO "phases" VALUES('birch','1.0','98318144bf2df2dbcd939990d5810fd5ffb79331c8a893e391d38365aab1e39d','Fetched',1000130.0);
INSERT INTO "phases" VALUES('cedar','1.0','08ac98ac85a8f4299d214d58f5846b2326366a6ea8ea25ae28aaaf099daba53a','Discovered',1000350.0);
INSERT INTO "phases" VALUES('cedar','1.0','08ac98ac85a8f4299d214d58f5846b2326366a6ea8ea25ae28aaaf099daba53a','Fetched',1000350.0);
INSERT INTO "phases" VALUES('cedar','1.0','08ac98ac85a8f4299d214d58f5846b2326366a6ea8ea25ae28aaaf099daba53a','Prepared',1000350.0);
INSERT INTO "phases" VALUES('fern','1.0','24fb3e13de21fd8e2f7f23061700173253e681cdef7f265c6899aca695444cd8','Discovered',1000130.0);
INSERT INTO "phases" VALUES('fern','1.0','24fb3e13de21fd8e2f7f23061700173253e681cdef7f265c6899aca695444cd8','Fetched',1000130.0);
INSERT INTO "phases" VALUES('fern','1.0','24fb3e13de21fd8e2f7f23061700173253e681cdef7f265c6899aca695444cd8','Prepared',1000130.0);
INSERT INTO "phases" VALUES('fern','1.0','24fb3e13de21fd8e2f7f23061700173253e681cdef7f265c6899aca695444cd8','Quarantined',1000160.0);
INSERT INTO "phases" VALUES('fern','1.0','24fb3e13de21fd8e2f7f23061700173253e681cdef7f265c6899aca695444cd8','Staged',1000140.0);
INSERT INTO "phases" VALUES('iris','1.0','f3f0598c8383646190500b7d51adcd5dfe0ba3d9288ed8418cc3db9e1b4ff3f3','Discovered',1000010.0);
INSERT INTO "phases" VALUES('iris','1.0','f3f0598c8383646190500b7d51adcd5dfe0ba3d9288ed8418cc3db9e1b4ff3f3','Fetched',1000010.0);
INSERT INTO "phases" VALUES('iris','1.0','f3f0598c8383646190500b7d51adcd5dfe0ba3d9288ed8418cc3db9e1b4ff3f3','Live',1000050.0);
INSERT INTO "phases" VALUES('iris','1.0','f3f0598c8383646190500b7d51adcd5dfe0ba3d9288ed8418cc3db9e1b4ff3f3','Prepared',1000010.0);
INSERT INTO "phases" VALUES('iris','1.0','f3f0598c8383646190500b7d51adcd5dfe0ba3d9288ed8418cc3db9e1b4ff3f3','Ready',1000040.0);
INSERT INTO "phases" VALUES('iris','1.0','f3f0598c8383646190500b7d51adcd5dfe0ba3d9288ed8418cc3db9e1b4ff3f3','Retired',1000290.0);
INSERT INTO "phases" VALUES('iris','1.0','f3f0598c8383646190500b7d51adcd5dfe0ba3d9288ed8418cc3db9e1b4ff3f3','Retiring',1000270.0);
INSERT INTO "phases" VALUES('iris','1.0','f3f0598c8383646190500b7d51adcd5dfe0ba3d9288ed8418cc3db9e1b4ff3f3','Staged',1000020.0);
INSERT INTO "phases" VALUES('iris','1.1','32ea4240bf9d96df4d4ec8bc6027f1cf4481ef9d62db7b98c369c4cbf62a7b47','Discovered',1000130.0);
INSERT INTO "phases" VALUES('iris','1.1','32ea4240bf9d96df4d4ec8bc6027f1cf4481ef9d62db7b98c369c4cbf62a7b47','Fetched',1000130.0);
INSERT INTO "phases" VALUES('iris','1.1','32ea4240bf9d96df4d4ec8bc6027f1cf4481ef9d62db7b98c369c4cbf62a7b47','Live',1000170.0);
INSERT INTO "phases" VALUES('iris','1.1','32ea4240bf9d96df4d4ec8bc6027f1cf4481ef9d62db7b98c369c4cbf62a7b47','Prepared',1000130.0);
INSERT INTO "phases" VALUES('iris','1.1','32ea4240bf9d96df4d4ec8bc6027f1cf4481ef9d62db7b98c369c4cbf62a7b47','Ready',1000160.0);
INSERT INTO "phases" VALUES('iris','1.1','32ea4240bf9d96df4d4ec8bc6027f1cf4481ef9d62db7b98c369c4cbf62a7b47','Staged',1000140.0);
INSERT INTO "phases" VALUES('iris','1.2','ca3fffce7a2691c270d1a5440f19845492ac52ec24682a65dec559e40d0feab3','Discovered',1000230.0);
INSERT INTO "phases" VALUES('iris','1.2','ca3fffce7a2691c270d1a5440f19845492ac52ec24682a65dec559e40d0feab3','Fetched',1000230.0);
INSERT INTO "phases" VALUES('iris','1.2','ca3fffce7a2691c270d1a5440f19845492ac52ec24682a65dec559e40d0feab3','Live',1000270.0);
INSERT INTO "phases" VALUES('iris','1.2','ca3fffce7a2691c270d1a5440f19845492ac52ec24682a65dec559e40d0feab3','Prepared',1000230.0);
INSERT INTO "phases" VALUES('iris','1.2','ca3fffce7a2691c270d1a5440f19845492ac52ec24682a65dec559e40d0feab3','Ready',1000260.0);
INSERT INTO "phases" VALUES('iris','1.2','ca3fffce7a2691c270d1a5440f19845492ac52ec24682a65dec559e40d0feab3','Staged',1000240.0);
INSERT INTO "phases" VALUES('iris','3.0','9939793ddbdad81121b983b8472af0c9c1c55281c484aefa4798b17adb3d3ea6','Discovered',1000130.0);
INSERT INTO "phases" VALUES('iris','3.0','9939793ddbdad81121b983b8472af0c9c1c55281c484aefa4798b17adb3d3ea6','Fetched',1000130.0);
INSERT INTO "phases" VALUES('ivy','1.0','126c51fbab9bf63a678d42a4c941b2d1962b3b28a66893aea4beae6ce6feb5d8','Discovered',1000010.0);
INSERT INTO "phases" VALUES('ivy','1.0','126c51fbab9bf63a678d42a4c941b2d1962b3b28a66893aea4beae6ce6feb5d8','Fetched',1000010.0);
INSERT INTO "phases" VALUES('ivy','1.0','126c51fbab9bf63a678d42a4c941b2d1962b3b28a66893aea4beae6ce6feb5d8','Live',1000050.0);
INSERT INTO "phases" VALUES('ivy','1.0','126c51fbab9bf63a678d42a4c941b2d1962b3b28a66893aea4beae6ce6feb5d8','Prepared',1000010.0);
INSERT INTO "phases" VALUES('ivy','1.0','126c51fbab9bf63a678d42a4c941b2d1962b3b28a66893aea4beae6ce6feb5d8','Ready',1000040.0);
INSERT INTO "phases" VALUES('ivy','1.0','126c51fbab9bf63a678d42a4c941b2d1962b3b28a66893aea4beae6ce6feb5d8','Staged',1000020.0);
INSERT INTO "phases" VALUES('ivy','2.0','a655944821132180db7eaecc2c3a67c0d1a7efbc20011d409eab1b233eb5e6d3','Discovered',1000130.0);
INSERT INTO "phases" VALUES('ivy','2.0','a655944821132180db7eaecc2c3a67c0d1a7efbc20011d409eab1b233eb5e6d3','Fetched',1000130.0);
INSERT INTO "phases" VALUES('ivy','2.0','a655944821132180db7eaecc2c3a67c0d1a7efbc20011d409eab1b233eb5e6d3','Prepared',1000130.0);
INSERT INTO "phases" VALUES('lily','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Discovered',1000010.0);
INSERT INTO "phases" VALUES('lily','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Fetched',1000010.0);
INSERT INTO "phases" VALUES('lily','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Live',1000080.0);
INSERT INTO "phases" VALUES('lily','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Prepared',1000010.0);
INSERT INTO "phases" VALUES('lily','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Ready',1000070.0);
INSERT INTO "phases" VALUES('lily','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Staged',1000050.0);
INSERT INTO "phases" VALUES('lotus','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Discovered',1000010.0);
INSERT INTO "phases" VALUES('lotus','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Fetched',1000010.0);
INSERT INTO "phases" VALUES('lotus','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Live',1000080.0);
INSERT INTO "phases" VALUES('lotus','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Prepared',1000010.0);
INSERT INTO "phases" VALUES('lotus','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Ready',1000070.0);
INSERT INTO "phases" VALUES('lotus','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Staged',1000050.0);
INSERT INTO "phases" VALUES('moss','1.0','e48d71a395cd1e1a46c12723be076465a541fd6e067ecf9e03ec7b5450b7e16c','Discovered',1000130.0);
INSERT INTO "phases" VALUES('moss','1.0','e48d71a395cd1e1a46c12723be076465a541fd6e067ecf9e03ec7b5450b7e16c','Fetched',1000130.0);
INSERT INTO "phases" VALUES('moss','1.0','e48d71a395cd1e1a46c12723be076465a541fd6e067ecf9e03ec7b5450b7e16c','Prepared',1000130.0);
INSERT INTO "phases" VALUES('oak','1.0','1cd109395a4e3449f3d4786cd728a82af6a10208913d47a9d392b723a859edb3','Quarantined',1000230.0);
INSERT INTO "phases" VALUES('rose','1.0','05fcd4d7984e5dcc7b2829ba4a15304f1cb2b0e1903f505401607da3a329b852','Discovered',1000010.0);
INSERT INTO "phases" VALUES('rose','1.0','05fcd4d7984e5dcc7b2829ba4a15304f1cb2b0e1903f505401607da3a329b852','Fetched',1000010.0);
INSERT INTO "phases" VALUES('rose','1.0','05fcd4d7984e5dcc7b2829ba4a15304f1cb2b0e1903f505401607da3a329b852','Live',1000110.0);
INSERT INTO "phases" VALUES('rose','1.0','05fcd4d7984e5dcc7b2829ba4a15304f1cb2b0e1903f505401607da3a329b852','Prepared',1000010.0);
INSERT INTO "phases" VALUES('rose','1.0','05fcd4d7984e5dcc7b2829ba4a15304f1cb2b0e1903f505401607da3a329b852','Ready',1000100.0);
INSERT INTO "phases" VALUES('rose','1.0','05fcd4d7984e5dcc7b2829ba4a15304f1cb2b0e1903f505401607da3a329b852','Staged',1000080.0);
INSERT INTO "phases" VALUES('rose','2.0','3ef3154e74d1b245f37dbe5403d34bea41d4b322b239411e8eb22d7ba89db537','Discovered',1000130.0);
INSERT INTO "phases" VALUES('rose','2.0','3ef3154e74d1b245f37dbe5403d34bea41d4b322b239411e8eb22d7ba89db537','Fetched',1000130.0);
CREATE TABLE placements (
        name TEXT PRIMARY KEY, staged_at REAL, routed_at REAL, live_at REAL
    , building_since REAL) WITHOUT ROWID;
INSERT INTO "placements" VALUES('aster-1.0-131d413f',1000360.0,NULL,NULL,NULL);
INSERT INTO "placements" VALUES('balsam-1.0-89da8dee',1000360.0,NULL,NULL,NULL);
INSERT INTO "placements" VALUES('iris-1.1-42cb7787',1000170.0,1000170.0,1000170.0,NULL);
INSERT INTO "placements" VALUES('iris-1.2-9bd2cc73',1000270.0,1000270.0,1000270.0,NULL);
INSERT INTO "placements" VALUES('ivy-1.0-8659a12d',1000050.0,1000050.0,1000050.0,NULL);
INSERT INTO "placements" VALUES('lily-1.0-9f4b3d1b',1000080.0,1000080.0,1000080.0,NULL);
INSERT INTO "placements" VALUES('lotus-1.0-a47a2574',1000080.0,1000080.0,1000080.0,NULL);
INSERT INTO "placements" VALUES('rose-1.0-bed92a85',1000110.0,1000110.0,1000110.0,NULL);
CREATE TABLE proven_weights (
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        weights TEXT NOT NULL, document TEXT NOT NULL, turn INTEGER NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (pipeline, digest, weights)
    ) WITHOUT ROWID;
INSERT INTO "proven_weights" VALUES('iris','1.1','32ea4240bf9d96df4d4ec8bc6027f1cf4481ef9d62db7b98c369c4cbf62a7b47','1111111111111111111111111111111111111111111111111111111111111111','{"digest": "1111111111111111111111111111111111111111111111111111111111111111", "package": "data", "project": "iris-weights", "record_digest": "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr", "tree": "/trees/1", "version": "2026.1"}',3,1.0);
INSERT INTO "proven_weights" VALUES('iris','1.1','32ea4240bf9d96df4d4ec8bc6027f1cf4481ef9d62db7b98c369c4cbf62a7b47','2222222222222222222222222222222222222222222222222222222222222222','{"digest": "2222222222222222222222222222222222222222222222222222222222222222", "package": "data", "project": "iris-weights", "record_digest": "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr", "tree": "/trees/2", "version": "2026.2"}',4,2.0);
INSERT INTO "proven_weights" VALUES('lily','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','7bee31237fb38b8abd6eff11a12f5c4ec50cbca0c97ae70f587c331e4c2345b0','{"digest": "7bee31237fb38b8abd6eff11a12f5c4ec50cbca0c97ae70f587c331e4c2345b0", "package": "lily_weights", "project": "lily-weights", "record_digest": "8830db6ef7f51051aa87a4902acace8f91d4a080b51f8aaabee6c95666b496b3", "tree": "/srv/wheelway/cache/trees/7b/7bee31237fb38b8abd6eff11a12f5c4ec50cbca0c97ae70f587c331e4c2345b0", "version": "2026.11.27"}',2,1000470.0);
INSERT INTO "proven_weights" VALUES('lily','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','83c97cd7e8e297d3fb1f37e7b295b10e5a51c7bb7a21576580fe03651e25905d','{"digest": "83c97cd7e8e297d3fb1f37e7b295b10e5a51c7bb7a21576580fe03651e25905d", "package": "lily_weights", "project": "lily-weights", "record_digest": "14cc2b681f832e1da0c7888ed0ad885d025f9460e89fb8f8cabf88b8f049d48e", "tree": "/srv/wheelway/cache/trees/83/83c97cd7e8e297d3fb1f37e7b295b10e5a51c7bb7a21576580fe03651e25905d", "version": "2026.11.26"}',1,1000420.0);
CREATE TABLE quarantines (
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        stage TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
        inputs TEXT NOT NULL, log_tail TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (pipeline, version, digest)
    ) WITHOUT ROWID;
INSERT INTO "quarantines" VALUES('fern','1.0','24fb3e13de21fd8e2f7f23061700173253e681cdef7f265c6899aca695444cd8','stage','LoadFailed','ValueError: no model.bin','9d050e5f28fe381b','wheelway-failure[LoadFailed] ValueError: no model.bin',1000160.0);
INSERT INTO "quarantines" VALUES('oak','1.0','1cd109395a4e3449f3d4786cd728a82af6a10208913d47a9d392b723a859edb3','inspect','RecordInvalid','oak-1.0-py3-none-any.whl: oak-1.0.dist-info/RECORD does not match the wheel: hash / size of oak/pipeline.py didn''t match RECORD; rebuild the wheel with its build backend, a wheel must not be edited after that','9d050e5f28fe381b','',1000230.0);
CREATE TABLE refused_weights (
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        weights TEXT NOT NULL, document TEXT NOT NULL, reason TEXT NOT NULL,
        message TEXT NOT NULL, log_tail TEXT NOT NULL, at REAL NOT NULL, lifted_at REAL,
        PRIMARY KEY (pipeline, digest, weights)
    ) WITHOUT ROWID;
INSERT INTO "refused_weights" VALUES('iris','1.1','32ea4240bf9d96df4d4ec8bc6027f1cf4481ef9d62db7b98c369c4cbf62a7b47','3333333333333333333333333333333333333333333333333333333333333333','{"digest": "3333333333333333333333333333333333333333333333333333333333333333", "package": "data", "project": "iris-weights", "record_digest": "rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr", "tree": "/trees/3", "version": "2026.3"}','LoadFailed','bad','tail',3.0,NULL);
INSERT INTO "refused_weights" VALUES('lily','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','27c81f7b0168b298e32776bfd0bbf802193978242c8f1f98636e0226fc3cd41f','{"digest": "27c81f7b0168b298e32776bfd0bbf802193978242c8f1f98636e0226fc3cd41f", "package": "lily_weights", "project": "lily-weights", "record_digest": "b10c08cbb439fe80d600943f7ec39ee40a947d030d4d1e1185baa748b8114000", "tree": "/srv/wheelway/cache/trees/27/27c81f7b0168b298e32776bfd0bbf802193978242c8f1f98636e0226fc3cd41f", "version": "2026.11.28"}','LoadFailed','load() raised ValueError: 3 classes, not 4','',1000520.0,NULL);
CREATE TABLE refused_wheels (
        digest TEXT NOT NULL, filename TEXT NOT NULL, reason TEXT NOT NULL,
        message TEXT NOT NULL, inputs TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (digest, filename)
    ) WITHOUT ROWID;
INSERT INTO "refused_wheels" VALUES('ef5784328113df5956f076fec735a514904eb6a5b7aaceafa3a516f4f4f8247e','','NotAPipelineWheel','elm-1.0-py3-none-any.whl has no entry point in the group `wheelway.pipelines`, so it is left alone; if it is to be served, add [project.entry-points."wheelway.pipelines"] with `name = "module:Class"` to its pyproject.toml and rebuild it','wheelway.pipelines wheelway.parts wheelway.weights',1000230.0);
CREATE TABLE releases (
        pipeline TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
        phase TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
        source TEXT NOT NULL, placement TEXT NOT NULL, since REAL NOT NULL, unsound INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (pipeline, version, digest)
    ) WITHOUT ROWID;
INSERT INTO "releases" VALUES('aster','1.0','df12f4ced67860301ecc998d2cf2e94d809ed6553f30138342d75c0113d396e6','Staged','Starting','a replica imports, loads and runs the examples','wheels','aster-1.0-131d413f',1000360.0,0);
INSERT INTO "releases" VALUES('balsam','1.0','89dfb1b410e7fc54ea212ee3811ef6b5e43f4521cdcf240d1a87b593b619f3db','Staged','Starting','a replica imports, loads and runs the examples','wheels','balsam-1.0-89da8dee',1000360.0,0);
INSERT INTO "releases" VALUES('birch','1.0','98318144bf2df2dbcd939990d5810fd5ffb79331c8a893e391d38365aab1e39d','Fetched','Inactive','the policy sets active = false','wheels','',1000130.0,0);
INSERT INTO "releases" VALUES('cedar','1.0','08ac98ac85a8f4299d214d58f5846b2326366a6ea8ea25ae28aaaf099daba53a','Prepared','Queued','2 releases are starting (rollout.max_staging)','wheels','cedar-1.0-51793bc7',1000350.0,0);
INSERT INTO "releases" VALUES('fern','1.0','24fb3e13de21fd8e2f7f23061700173253e681cdef7f265c6899aca695444cd8','Quarantined','LoadFailed','ValueError: no model.bin','wheels','fern-1.0-02bd2666',1000160.0,0);
INSERT INTO "releases" VALUES('iris','1.0','f3f0598c8383646190500b7d51adcd5dfe0ba3d9288ed8418cc3db9e1b4ff3f3','Retired','NotKept','keep = 2, which newer versions fill: 1.2, 1.1','wheels','iris-1.0-a79baec2',1000290.0,0);
INSERT INTO "releases" VALUES('iris','1.1','32ea4240bf9d96df4d4ec8bc6027f1cf4481ef9d62db7b98c369c4cbf62a7b47','Live','AnswersAtRoute','/predict/iris/1.1','wheels','iris-1.1-42cb7787',1000170.0,0);
INSERT INTO "releases" VALUES('iris','1.2','ca3fffce7a2691c270d1a5440f19845492ac52ec24682a65dec559e40d0feab3','Live','AnswersAtRoute','/predict/iris/1.2','wheels','iris-1.2-9bd2cc73',1000270.0,0);
INSERT INTO "releases" VALUES('iris','3.0','9939793ddbdad81121b983b8472af0c9c1c55281c484aefa4798b17adb3d3ea6','Fetched','VersionExcluded','the policy allows versions <3,>=1','wheels','',1000130.0,0);
INSERT INTO "releases" VALUES('ivy','1.0','126c51fbab9bf63a678d42a4c941b2d1962b3b28a66893aea4beae6ce6feb5d8','Live','AnswersAtRoute','/predict/ivy/1.0','wheels','ivy-1.0-8659a12d',1000050.0,0);
INSERT INTO "releases" VALUES('ivy','2.0','a655944821132180db7eaecc2c3a67c0d1a7efbc20011d409eab1b233eb5e6d3','Prepared','Suspended','suspended by bob (see 42): nothing changes, what serves goes on; `wheelway resume ivy` ends it','wheels','ivy-2.0-260430a2',1000130.0,0);
INSERT INTO "releases" VALUES('lily','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Live','AnswersAtRoute','/predict/lily/1.0','wheels','lily-1.0-9f4b3d1b',1000080.0,0);
INSERT INTO "releases" VALUES('lotus','1.0','1aa49e468801f19ce0e44f47925cfd31f8baac50b51838983ddd3a120fb650cd','Live','AnswersAtRoute','/predict/lotus/1.0','wheels','lotus-1.0-a47a2574',1000080.0,0);
INSERT INTO "releases" VALUES('moss','1.0','e48d71a395cd1e1a46c12723be076465a541fd6e067ecf9e03ec7b5450b7e16c','Prepared','RouteConflict','application ''theirs'', which is not wheelway''s, holds /predict/moss/1.0','wheels','moss-1.0-9521bfe8',1000130.0,0);
INSERT INTO "releases" VALUES('oak','1.0','1cd109395a4e3449f3d4786cd728a82af6a10208913d47a9d392b723a859edb3','Quarantined','RecordInvalid','oak-1.0-py3-none-any.whl: oak-1.0.dist-info/RECORD does not match the wheel: hash / size of oak/pipeline.py didn''t match RECORD; rebuild the wheel with its build backend, a wheel must not be edited after that','wheels','',1000230.0,1);
INSERT INTO "releases" VALUES('rose','1.0','05fcd4d7984e5dcc7b2829ba4a15304f1cb2b0e1903f505401607da3a329b852','Live','AnswersAtRoute','/predict/rose/1.0','wheels','rose-1.0-bed92a85',1000110.0,0);
INSERT INTO "releases" VALUES('rose','2.0','3ef3154e74d1b245f37dbe5403d34bea41d4b322b239411e8eb22d7ba89db537','Fetched','OtherPinned','pinned to 1.0 by alice','wheels','',1000130.0,0);
CREATE TABLE status (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        number INTEGER NOT NULL, at REAL NOT NULL, sentence TEXT NOT NULL, duration REAL NOT NULL,
        pid INTEGER NOT NULL, version TEXT NOT NULL, started_at REAL NOT NULL
    );
INSERT INTO "status" VALUES(1,40,1000540.0,'6 live, 2 starting, 3 waiting, 2 quarantined',0.25,1,'0.1.0',1000000.0);
CREATE TABLE weights_owners (
        pipeline TEXT PRIMARY KEY, project TEXT NOT NULL
    ) WITHOUT ROWID;
INSERT INTO "weights_owners" VALUES('lily','lily-weights');
CREATE INDEX events_by_pipeline ON events (pipeline, version, id);
CREATE INDEX configs_by_digest ON configs (digest, id);
COMMIT;
PRAGMA user_version = 13;
