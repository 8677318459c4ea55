"""AWS CodeArtifact: wheels of a repository, and the repository as a package index for uv.

One room each: `source` what to look at and when, `packages` and `versions` what that means,
`connection` the way into AWS, `rate_limiter` its pace, `failures` its errors, `wire` its bounds,
`repository` its calls, `events` push, `index` tokens for uv. Importing this imports boto3, which
takes a while: whoever does not need it should not.
"""

from controller.sources.codeartifact.index import CodeArtifactIndex
from controller.sources.codeartifact.source import CodeArtifactSource

__all__ = ["CodeArtifactIndex", "CodeArtifactSource"]
