BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('m0001');
CREATE TABLE delivery (
	sop_instance_uid VARCHAR(64) NOT NULL, 
	destination VARCHAR(32) NOT NULL, 
	sop_class_uid VARCHAR(64) NOT NULL, 
	transfer_syntax_uid VARCHAR(64) NOT NULL, 
	path TEXT NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	revision INTEGER NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	attempts INTEGER NOT NULL, 
	queued_at DATETIME NOT NULL, 
	next_attempt_at DATETIME NOT NULL, 
	status INTEGER, 
	detail TEXT NOT NULL, 
	CONSTRAINT pk_delivery PRIMARY KEY (sop_instance_uid, destination), 
	CONSTRAINT fk_delivery_series_instance_uid FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid)
);
INSERT INTO "delivery" VALUES('1.2.5.9','pacs','1.2.840.10008.5.1.4.1.1.66.4','1.2.840.10008.1.2.1','results/1.2.5/revision_1/seg.dcm','1.2.5',1,'queued',0,'2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000',NULL,'');
INSERT INTO "delivery" VALUES('1.2.6.9','pacs','1.2.840.10008.5.1.4.1.1.66.4','1.2.840.10008.1.2.1','results/1.2.6/revision_1/seg.dcm','1.2.6',1,'queued',0,'2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000',NULL,'');
INSERT INTO "delivery" VALUES('1.2.7.9','pacs','1.2.840.10008.5.1.4.1.1.66.4','1.2.840.10008.1.2.1','results/1.2.7/revision_1/seg.dcm','1.2.7',1,'accepted',1,'2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000',0,'');
INSERT INTO "delivery" VALUES('1.2.10.9','pacs','1.2.840.10008.5.1.4.1.1.66.4','1.2.840.10008.1.2.1','results/1.2.10/revision_1/seg.dcm','1.2.10',1,'dead',5,'2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000',43264,'status A900');
CREATE TABLE history (
	number INTEGER NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	at DATETIME NOT NULL, 
	event VARCHAR(32) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	revision INTEGER NOT NULL, 
	reason_code VARCHAR(32), 
	reason_message TEXT, 
	CONSTRAINT pk_history PRIMARY KEY (number), 
	CONSTRAINT fk_history_series_instance_uid FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid)
);
INSERT INTO "history" VALUES(1,'1.2.1','2026-01-02 10:00:00.000000','instance_stored','receiving',1,NULL,NULL);
INSERT INTO "history" VALUES(2,'1.2.2','2026-01-02 10:00:00.000000','instance_stored','receiving',1,NULL,NULL);
INSERT INTO "history" VALUES(3,'1.2.2','2026-01-02 10:00:00.000000','quiet_period_over','complete',1,NULL,NULL);
INSERT INTO "history" VALUES(4,'1.2.3','2026-01-02 10:00:00.000000','instance_stored','receiving',1,NULL,NULL);
INSERT INTO "history" VALUES(5,'1.2.3','2026-01-02 10:00:00.000000','quiet_period_over','queued',1,NULL,NULL);
INSERT INTO "history" VALUES(6,'1.2.4','2026-01-02 10:00:00.000000','instance_stored','receiving',1,NULL,NULL);
INSERT INTO "history" VALUES(7,'1.2.4','2026-01-02 10:00:00.000000','quiet_period_over','analyzing',1,NULL,NULL);
INSERT INTO "history" VALUES(8,'1.2.5','2026-01-02 10:00:00.000000','instance_stored','receiving',1,NULL,NULL);
INSERT INTO "history" VALUES(9,'1.2.5','2026-01-02 10:00:00.000000','quiet_period_over','analyzed',1,NULL,NULL);
INSERT INTO "history" VALUES(10,'1.2.6','2026-01-02 10:00:00.000000','instance_stored','receiving',1,NULL,NULL);
INSERT INTO "history" VALUES(11,'1.2.6','2026-01-02 10:00:00.000000','quiet_period_over','delivering',1,NULL,NULL);
INSERT INTO "history" VALUES(12,'1.2.7','2026-01-02 10:00:00.000000','instance_stored','receiving',1,NULL,NULL);
INSERT INTO "history" VALUES(13,'1.2.7','2026-01-02 10:00:00.000000','quiet_period_over','delivered',1,NULL,NULL);
INSERT INTO "history" VALUES(14,'1.2.8','2026-01-02 10:00:00.000000','instance_stored','receiving',1,NULL,NULL);
INSERT INTO "history" VALUES(15,'1.2.8','2026-01-02 10:00:00.000000','quiet_period_over','skipped',1,'NOT_AXIAL','the slices are sagittal');
INSERT INTO "history" VALUES(16,'1.2.9','2026-01-02 10:00:00.000000','instance_stored','receiving',1,NULL,NULL);
INSERT INTO "history" VALUES(17,'1.2.9','2026-01-02 10:00:00.000000','quiet_period_over','quarantined',1,'INSTANCE_CONFLICT','two patients');
INSERT INTO "history" VALUES(18,'1.2.10','2026-01-02 10:00:00.000000','instance_stored','receiving',1,NULL,NULL);
INSERT INTO "history" VALUES(19,'1.2.10','2026-01-02 10:00:00.000000','quiet_period_over','failed',1,'L3_UNCERTAIN','it may be L2 or L3');
CREATE TABLE instance (
	sop_instance_uid VARCHAR(64) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	sop_class_uid VARCHAR(64) NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	transfer_syntax_uid VARCHAR(64) NOT NULL, 
	calling_ae_title VARCHAR(16) NOT NULL, 
	sender_address VARCHAR(64) NOT NULL, 
	path TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	patient_key VARCHAR(64) NOT NULL, 
	received_at DATETIME NOT NULL, 
	CONSTRAINT pk_instance PRIMARY KEY (sop_instance_uid, sha256), 
	CONSTRAINT fk_instance_series_instance_uid FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid)
);
INSERT INTO "instance" VALUES('1.2.1.1','0000000000000000000000000000000000000000000000000000000000000001','1.2.840.10008.5.1.4.1.1.2','1.2.1','1.2','1.2.840.10008.1.2.1','CT1','192.0.2.10','instances/1.2.1/1.2.1.1.dcm',1000,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000');
INSERT INTO "instance" VALUES('1.2.2.1','0000000000000000000000000000000000000000000000000000000000000002','1.2.840.10008.5.1.4.1.1.2','1.2.2','1.2','1.2.840.10008.1.2.1','CT1','192.0.2.10','instances/1.2.2/1.2.2.1.dcm',1000,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000');
INSERT INTO "instance" VALUES('1.2.3.1','0000000000000000000000000000000000000000000000000000000000000003','1.2.840.10008.5.1.4.1.1.2','1.2.3','1.2','1.2.840.10008.1.2.1','CT1','192.0.2.10','instances/1.2.3/1.2.3.1.dcm',1000,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000');
INSERT INTO "instance" VALUES('1.2.4.1','0000000000000000000000000000000000000000000000000000000000000004','1.2.840.10008.5.1.4.1.1.2','1.2.4','1.2','1.2.840.10008.1.2.1','CT1','192.0.2.10','instances/1.2.4/1.2.4.1.dcm',1000,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000');
INSERT INTO "instance" VALUES('1.2.5.1','0000000000000000000000000000000000000000000000000000000000000005','1.2.840.10008.5.1.4.1.1.2','1.2.5','1.2','1.2.840.10008.1.2.1','CT1','192.0.2.10','instances/1.2.5/1.2.5.1.dcm',1000,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000');
INSERT INTO "instance" VALUES('1.2.6.1','0000000000000000000000000000000000000000000000000000000000000006','1.2.840.10008.5.1.4.1.1.2','1.2.6','1.2','1.2.840.10008.1.2.1','CT1','192.0.2.10','instances/1.2.6/1.2.6.1.dcm',1000,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000');
INSERT INTO "instance" VALUES('1.2.7.1','0000000000000000000000000000000000000000000000000000000000000007','1.2.840.10008.5.1.4.1.1.2','1.2.7','1.2','1.2.840.10008.1.2.1','CT1','192.0.2.10','instances/1.2.7/1.2.7.1.dcm',1000,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000');
INSERT INTO "instance" VALUES('1.2.8.1','0000000000000000000000000000000000000000000000000000000000000008','1.2.840.10008.5.1.4.1.1.2','1.2.8','1.2','1.2.840.10008.1.2.1','CT1','192.0.2.10','instances/1.2.8/1.2.8.1.dcm',1000,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000');
INSERT INTO "instance" VALUES('1.2.9.1','0000000000000000000000000000000000000000000000000000000000000009','1.2.840.10008.5.1.4.1.1.2','1.2.9','1.2','1.2.840.10008.1.2.1','CT1','192.0.2.10','instances/1.2.9/1.2.9.1.dcm',1000,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000');
INSERT INTO "instance" VALUES('1.2.10.1','000000000000000000000000000000000000000000000000000000000000000a','1.2.840.10008.5.1.4.1.1.2','1.2.10','1.2','1.2.840.10008.1.2.1','CT1','192.0.2.10','instances/1.2.10/1.2.10.1.dcm',1000,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000');
CREATE TABLE series (
	series_instance_uid VARCHAR(64) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	reason_code VARCHAR(32), 
	reason_message TEXT, 
	revision INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	instance_count INTEGER NOT NULL, 
	source_ae_title VARCHAR(16) NOT NULL, 
	patient_key VARCHAR(64) NOT NULL, 
	first_received_at DATETIME NOT NULL, 
	last_received_at DATETIME NOT NULL, 
	revision_started_at DATETIME NOT NULL, 
	due_at DATETIME, 
	queued_at DATETIME, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_series PRIMARY KEY (series_instance_uid)
);
INSERT INTO "series" VALUES('1.2.1','1.2','receiving',NULL,NULL,1,0,1,'CT1','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:10:00.000000',NULL,'2026-01-02 10:00:00.000000');
INSERT INTO "series" VALUES('1.2.2','1.2','complete',NULL,NULL,1,0,1,'CT1','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000',NULL,NULL,'2026-01-02 10:00:00.000000');
INSERT INTO "series" VALUES('1.2.3','1.2','queued',NULL,NULL,1,1,1,'CT1','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:10:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000');
INSERT INTO "series" VALUES('1.2.4','1.2','analyzing',NULL,NULL,1,1,1,'CT1','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:10:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000');
INSERT INTO "series" VALUES('1.2.5','1.2','analyzed',NULL,NULL,1,1,1,'CT1','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000',NULL,'2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000');
INSERT INTO "series" VALUES('1.2.6','1.2','delivering',NULL,NULL,1,1,1,'CT1','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000',NULL,'2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000');
INSERT INTO "series" VALUES('1.2.7','1.2','delivered',NULL,NULL,1,1,1,'CT1','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000',NULL,'2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000');
INSERT INTO "series" VALUES('1.2.8','1.2','skipped','NOT_AXIAL','the slices are sagittal',1,0,1,'CT1','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000',NULL,NULL,'2026-01-02 10:00:00.000000');
INSERT INTO "series" VALUES('1.2.9','1.2','quarantined','INSTANCE_CONFLICT','two patients',1,1,1,'CT1','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000',NULL,'2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000');
INSERT INTO "series" VALUES('1.2.10','1.2','failed','L3_UNCERTAIN','it may be L2 or L3',1,1,1,'CT1','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000',NULL,'2026-01-02 10:00:00.000000','2026-01-02 10:00:00.000000');
CREATE INDEX ix_series_state ON series (state, due_at);
CREATE INDEX ix_series_last_received_at ON series (last_received_at);
CREATE INDEX ix_instance_series_instance_uid ON instance (series_instance_uid);
CREATE INDEX ix_history_series_instance_uid ON history (series_instance_uid);
CREATE INDEX ix_delivery_series_instance_uid ON delivery (series_instance_uid);
CREATE INDEX ix_delivery_state ON delivery (state, next_attempt_at);
COMMIT;
