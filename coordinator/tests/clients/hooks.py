"""Bytes that go on with an upload are bytes as any others."""

import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
