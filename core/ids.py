"""One `NewType` per kind of id, with the form people see."""

from typing import NewType

ProjectId = NewType("ProjectId", str)
"""A project's short name, as people type it: `web`."""
TaskId = NewType("TaskId", str)
"""`T-142`: a number that the installation counts up."""
RunId = NewType("RunId", str)
"""`T-142.1`: the task's id and the number of the attempt."""
WorkspaceId = NewType("WorkspaceId", str)
"""Eight lower-case letters and digits, part of the host name `ws-{id}`."""
NodeId = NewType("NodeId", str)
"""`node-` and eight hex digits; also the machine's name at its supplier."""
SessionId = NewType("SessionId", str)
"""A UUID4, because Claude Code wants one as the name of a conversation."""
TerminalId = NewType("TerminalId", str)
"""`t-` and eight hex digits; also a folder's name on the node."""
RecordingId = NewType("RecordingId", str)
"""The id of what is recorded: of a session or of a terminal."""
DecisionId = NewType("DecisionId", str)
"""`{session}:{request}` for what a coding agent asked, `{run}:budget` for what we ask."""
CopyId = NewType("CopyId", str)
"""`{workspace}-{n}`: the nth rescue copy of a workspace."""
OrderId = NewType("OrderId", str)
"""`{object}/{verb}/{n}`: the same order has the same id, however often it is written."""
ThreadId = NewType("ThreadId", str)
"""`{surface}:{channel}:{thread}`: one conversation on one surface."""
PersonId = NewType("PersonId", str)
"""A person whose identity was checked, whichever surface they use."""
ReplicaId = NewType("ReplicaId", str)
"""Host, process id and a random part: one life of one control plane process."""
