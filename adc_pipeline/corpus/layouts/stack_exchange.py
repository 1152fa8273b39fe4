"""Questions, answers and comments of Stack Exchange: its dumps, tables of them, and its interface."""

from adc_pipeline.corpus.layouts.layout import ITSELF, Layout

STACK_EXCHANGE_POSTS = Layout(
    "Stack Exchange posts",
    ("Id", "PostTypeId", "Score", "Body"),
    {
        "id": "{Id:id}",
        # 1 is a question and 2 an answer.
        "conversation_id": "CASE {PostTypeId:id} WHEN '1' THEN {Id:id} WHEN '2' THEN {ParentId:id} END",
        "reply_to": "CASE {PostTypeId:id} WHEN '2' THEN {ParentId:parent} END",
        "speaker": "coalesce('user' || {OwnerUserId:id}, {OwnerDisplayName})",
        "text": "html_text({Body})",
        "timestamp": "{CreationDate}",
        "score": "{Score}",
        "title": "CASE {PostTypeId:id} WHEN '1' THEN {Title} END",
        # Others are texts about tags and the like, no part of a conversation.
        "kind": "CASE WHEN {PostTypeId:id} IN ('1', '2') THEN 't3_' ELSE 't5_' END",
        "parent_kind": "'t3_'",
    },
)

# Tables of questions and answers that others made of these, such as Google's; answers name a question.
STACK_EXCHANGE_TABLES = Layout(
    "Stack Exchange questions and answers",
    ("id", "body", "score", "OwnerUserId|owner_user_id", "CreationDate|creation_date", "ParentId|parent_id|title"),
    {
        "id": "{id:id}",
        "conversation_id": "coalesce({ParentId:parent}, {parent_id:parent}, {id:id})",
        "reply_to": "coalesce({ParentId:parent}, {parent_id:parent})",
        "speaker": "coalesce('user' || {OwnerUserId:id}, 'user' || {owner_user_id:id}, {owner_display_name})",
        "text": "html_text({body})",
        "timestamp": "coalesce({CreationDate}, {creation_date})",
        "score": "{score}",
        "title": "CASE WHEN coalesce({ParentId:parent}, {parent_id:parent}) IS NULL THEN {title} END",
        "kind": "CASE WHEN {post_type_id:id} NOT IN ('1', '2') THEN 't5_' ELSE 't3_' END",
        "parent_kind": "'t3_'",
    },
)

STACK_EXCHANGE_COMMENTS = Layout(
    "Stack Exchange comments",
    ("Id", "PostId", "Score", "Text"),
    {
        "id": "{Id:id}",
        # Not in the file: `corpus.part_rows` adds the question that the post belongs to.
        "conversation_id": "{QuestionId:id}",
        "reply_to": "{PostId:parent}",
        "speaker": "coalesce('user' || {UserId:id}, {UserDisplayName})",
        "text": "{Text}",
        "timestamp": "{CreationDate}",
        "score": "{Score}",
        "kind": "'t1_'",
        "parent_kind": "'t3_'",
    },
    has_roots=False,
)

# A question, its answers inside it, and comments inside both, as the public interface gives them. Questions and answers
# are numbered together, comments apart.
STACK_EXCHANGE_QUESTIONS = Layout(
    "Stack Exchange questions of its public interface",
    (
        "question_id|answer_id|comment_id", "score", "creation_date", "body|body_markdown",
        "owner|owner.display_name|owner.user_id|owner.user_type",
    ),
    {
        "id": "coalesce({comment_id:id}, {answer_id:id}, {question_id:id})",
        "conversation_id": "{question_id:id}",
        "reply_to": "CASE WHEN {comment_id:id} IS NOT NULL THEN {post_id:parent}"
        " WHEN {answer_id:id} IS NOT NULL THEN {question_id:parent} END",
        "speaker": "coalesce(html_text({owner.display_name}), 'user' || {owner.user_id:id})",
        "text": "coalesce(html_text({body}), {body_markdown})",
        "timestamp": "{creation_date}",
        "score": "{score}",
        "title": "CASE WHEN coalesce({comment_id:id}, {answer_id:id}) IS NULL THEN {title} END",
        "kind": "CASE WHEN {comment_id:id} IS NULL THEN 't3_' ELSE 't1_' END",
        "parent_kind": "'t3_'",
    },
    inside=ITSELF,
    children=("answers", "comments"),
    answers=("question_id", "question_id"),
)  # fmt: skip
