"""The pages, as Streamlit draws them; what they do is done by the functions of ``webapp``."""
