"""AWS CodeArtifact: wheels of a repository, and the repository as a package index for uv.

`source` polls; `packages` and `versions` interpret the answers; `connection` is the way into AWS,
`rate_limiter` its pace, `failures` its errors, `wire` its bounds, `repository` its calls; `events`
takes pushed events; `index` has tokens for uv. This imports boto3, which takes a while: import it
only where it is needed.
"""

from controller.sources.codeartifact.index import CodeArtifactIndex
from controller.sources.codeartifact.source import CodeArtifactSource

__all__ = ["CodeArtifactIndex", "CodeArtifactSource"]
