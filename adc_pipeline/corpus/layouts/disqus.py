"""Exports of Disqus."""

from adc_pipeline.corpus.layouts.layout import Layout

# Comments below an article, of which the first of a thread is the root.
DISQUS = Layout(
    "Disqus posts of its public interface",
    ("id", "parent", "thread|thread.id", "message", "likes|points", "createdAt", "raw_message|isDeleted|isSpam"),
    {
        "id": "{id:id}",
        "conversation_id": "{root}",
        "reply_to": "{parent:parent}",
        "speaker": "coalesce({author.name}, {author.username})",
        "text": "CASE WHEN is_true({isDeleted}) THEN '[deleted]'"
        " ELSE coalesce({raw_message}, html_text({message})) END",
        "timestamp": "{createdAt}",
        "score": "coalesce({points}, CAST(whole_number({likes}) - coalesce(whole_number({dislikes}), 0) AS VARCHAR))",
    },
)
