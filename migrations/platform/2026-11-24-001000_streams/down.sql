DROP TABLE stream_event;
DROP TABLE stream_head;
